/**
 * Losses and their error in float64; the same formulas as dareq_runtime/scoring.py and kit/validate.py.
 *
 *     stderr = sqrt( n / (n - 1) * sum_i (S_i - m * c_i)^2 ) / sum_i c_i      S_i loss sum, c_i tokens of window i
 */
import { PageError } from './errors.js';

const MIN_CLUSTERS = 10;
const BLOCK = 64;
const TINY = 1e-12;

/**
 * @typedef {"token" | "window"} Weighting
 *
 * @typedef {object} Row What one row of logits says.
 * @property {number} logSum Logarithm of the sum of exponentials.
 * @property {number} best The first of the likeliest tokens.
 */

/**
 * @param {Float32Array} logits [V]
 * @returns {Row}
 */
export function readRow(logits) {
  let best = 0;
  for (let i = 1; i < logits.length; i += 1) if (logits[i] > logits[best]) best = i;
  const top = logits[best];
  let sum = 0;
  for (let i = 0; i < logits.length; i += 1) sum += Math.exp(logits[i] - top);
  return { logSum: Math.log(sum) + top, best };
}

/**
 * KL(reference || subject) over the reference's likeliest tokens and all others as one: a lower bound of the whole.
 *
 * @param {Float32Array} logits Of the subject, [V].
 * @param {number} logSum Of the same.
 * @param {Int32Array} ids The reference's likeliest tokens, [k].
 * @param {Float32Array} logp Their log-probabilities there, [k].
 * @returns {number} Nats.
 */
export function divergence(logits, logSum, ids, logp) {
  let kl = 0;
  let [restP, restQ] = [1, 1];
  for (let i = 0; i < ids.length; i += 1) {
    const p = Math.exp(logp[i]);
    const logQ = logits[ids[i]] - logSum;
    kl += p * (logp[i] - logQ);
    restP -= p;
    restQ -= Math.exp(logQ);
  }
  if (ids.length < logits.length) {
    [restP, restQ] = [Math.max(restP, TINY), Math.max(restQ, TINY)];
    kl += restP * Math.log(restP / restQ);
  }
  return Math.max(kl, 0);
}

/**
 * Mean loss and its standard error; see the top of this file.
 *
 * @param {Float64Array[]} losses Per window.
 * @param {Weighting} weighting
 * @returns {{ mean: number, error: number }} Nats.
 * @throws {PageError} Fewer than two tokens were predicted.
 */
export function meanAndError(losses, weighting) {
  if (losses.reduce((n, x) => n + x.length, 0) < 2) {
    throw new PageError('Fewer than 2 tokens were predicted, which gives no standard error; judge more tokens.');
  }
  const byWindow = weighting === 'window' && losses.length > 1;
  const parts = byWindow || losses.length >= MIN_CLUSTERS ? losses : blocks(losses);
  const sums = parts.map((x) => total(x) / (byWindow ? x.length : 1));
  const counts = parts.map((x) => (byWindow ? 1 : x.length));
  const n = sums.length;
  const all = total(counts);
  const mean = total(sums) / all;
  const squares = total(sums.map((s, i) => (s - mean * counts[i]) ** 2));
  return { mean, error: Math.sqrt((n / (n - 1)) * squares) / all };
}

/**
 * Cut windows into blocks, at least two in all.
 *
 * @param {Float64Array[]} losses
 * @returns {Float64Array[]}
 */
function blocks(losses) {
  const size = Math.min(BLOCK, Math.max(1, Math.floor(losses.reduce((n, x) => n + x.length, 0) / 2)));
  const parts = [];
  for (const x of losses) for (let s = 0; s < x.length; s += size) parts.push(x.subarray(s, s + size));
  return parts;
}

/**
 * @param {ArrayLike<number>} values
 * @returns {number}
 */
export function total(values) {
  let sum = 0;
  for (let i = 0; i < values.length; i += 1) sum += values[i];
  return sum;
}

/**
 * A percentile with linear interpolation, as numpy's default.
 *
 * @param {Float64Array} values
 * @param {number} percent 0 to 100.
 * @returns {number}
 */
export function percentile(values, percent) {
  const sorted = Float64Array.from(values).sort();
  const at = ((sorted.length - 1) * percent) / 100;
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
}
