/** How the next token is chosen from a row of logits. */
import { PageError } from './errors.js';
import { randomStream } from './random.js';

/**
 * @typedef {object} Sampling
 * @property {number} temperature 0 is greedy.
 * @property {number} topK Keep this many of the likeliest tokens; 0 keeps all.
 * @property {number} seed
 */

/**
 * @param {Sampling} sampling
 * @returns {(logits: Float32Array) => number} Chooses a token of a row [V].
 * @throws {PageError} A value is out of range.
 */
export function chooser({ temperature, topK, seed }) {
  if (!(temperature >= 0 && temperature < Infinity)) throw new PageError('The temperature must be 0 (greedy) or more.');
  if (!Number.isInteger(topK) || topK < 0) throw new PageError('Top-k must be a whole number, 0 to keep all tokens.');
  if (!Number.isInteger(seed) || seed < 0) throw new PageError('The seed must be a whole number, 0 or more.');
  if (temperature === 0) return argmax;
  const random = randomStream(seed);
  return (logits) => {
    const ids = topK > 0 && topK < logits.length ? largest(logits, topK) : null;
    return drawn(logits, ids, temperature, random());
  };
}

/**
 * The first of the largest values.
 *
 * @param {Float32Array} logits [V]
 * @returns {number}
 */
export function argmax(logits) {
  let best = 0;
  for (let i = 1; i < logits.length; i += 1) if (logits[i] > logits[best]) best = i;
  return best;
}

/**
 * Ids of the k largest logits, ascending; of equal ones the first.
 *
 * @param {Float32Array} logits [V]
 * @param {number} k Below V.
 * @returns {Int32Array}
 */
export function largest(logits, k) {
  const least = Float32Array.from(logits).sort()[logits.length - k];
  let ties = k;
  for (const x of logits) if (x > least) ties -= 1;
  const kept = new Int32Array(k);
  let n = 0;
  for (let i = 0; i < logits.length; i += 1) {
    if (logits[i] > least || (logits[i] === least && ties-- > 0)) kept[n++] = i;
  }
  return kept;
}

/**
 * The token with which the kept mass first exceeds its u-th part.
 *
 * @param {Float32Array} logits [V]
 * @param {Int32Array | null} ids Those kept; null for all.
 * @param {number} temperature
 * @param {number} u In [0, 1).
 * @returns {number}
 */
function drawn(logits, ids, temperature, u) {
  const count = ids === null ? logits.length : ids.length;
  const top = logits[argmax(logits)];
  const mass = new Float64Array(count);
  let total = 0;
  for (let i = 0; i < count; i += 1) {
    total += Math.exp((logits[ids === null ? i : ids[i]] - top) / temperature);
    mass[i] = total;
  }
  const found = mass.findIndex((m) => m > u * total);
  const last = found < 0 ? count - 1 : found;
  return ids === null ? last : ids[last];
}
