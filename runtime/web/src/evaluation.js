/** What a kit holds to be judged by: tokens, windows, and the host's predictions. */
import { PageError } from './errors.js';
import { readIds, readNpy } from './npy.js';

/**
 * @typedef {object} Evaluation
 * @property {Int32Array} ids All tokens.
 * @property {[number, number, number][]} windows Offset into ids, length, first predicted position.
 * @property {number} chunk Tokens per pass, as on the host.
 * @property {Float64Array} nll The host's losses in fp32 compute, [P].
 * @property {Int32Array} top Its likeliest tokens, [P, k].
 * @property {Float32Array} logp Their log-probabilities, [P, k].
 * @property {number} k
 */

/**
 * @param {import('./manifest.js').Kit} kit
 * @param {Map<string, Uint8Array>} files Of the kit.
 * @returns {Evaluation}
 * @throws {PageError} A file is missing, or they do not fit together.
 */
export function readEvaluation(kit, files) {
  const get = (/** @type {string} */ name) => {
    const bytes = files.get(name);
    if (bytes === undefined) throw new PageError(`${name} is missing from the kit; make it again with dareq-edge bundle.`);
    return bytes;
  };
  const part = (/** @type {string} */ name) => readNpy(get(`reference/fp32.${name}.npy`), `reference/fp32.${name}.npy`);
  const [nll, top, logp] = [part('nll'), part('top'), part('logp')];
  const ids = readIds(get('tokens.npy'), 'tokens.npy');
  const predicted = kit.windows.reduce((sum, [, length, first]) => sum + length - first, 0);
  const k = top.shape[1];
  const fits =
    nll.data.length === predicted && top.data.length === predicted * k && logp.data.length === predicted * k &&
    kit.windows.every(([at, length, first]) => at >= 0 && first >= 1 && first < length && at + length <= ids.length);
  if (!fits || !(nll.data instanceof Float64Array && top.data instanceof Int32Array && logp.data instanceof Float32Array)) {
    throw new PageError('The tokens, windows and references of this kit do not fit together; make it again.');
  }
  return { ids, windows: kit.windows, chunk: kit.chunk, nll: nll.data, top: top.data, logp: logp.data, k };
}

/**
 * How many of the first windows hold so many predicted tokens.
 *
 * @param {[number, number, number][]} windows
 * @param {number} tokens Infinity for all.
 * @returns {number}
 */
export function windowsFor(windows, tokens) {
  let [sum, count] = [0, 0];
  while (count < windows.length && sum < Math.max(2, tokens)) {
    sum += windows[count][1] - windows[count][2];
    count += 1;
  }
  return count;
}
