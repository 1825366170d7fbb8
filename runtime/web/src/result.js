/** The verdict, and result.json in the form that validate.py writes and dareq-edge verdict judges again. */
import { meanAndError, percentile, total } from './scoring.js';

/**
 * @typedef {object} Judgement Of one compute.
 * @property {number} tokens
 * @property {number} ppl
 * @property {number} stderr
 * @property {number} reference_ppl
 * @property {number} delta_ppl ppl / reference_ppl - 1.
 * @property {number} delta_stderr
 * @property {number} allowed
 * @property {boolean} passed
 * @property {number} kl_mean
 * @property {number} kl_p99
 * @property {number} top1_agreement
 * @property {number} prefill_tokens_per_s
 * @property {number} decode_tokens_per_s
 * @property {number} load_s
 * @property {number[]} nll
 * @property {number[]} reference_nll
 */

/**
 * @param {import('./validate.js').Measured} measured
 * @param {import('./manifest.js').Kit} kit
 * @param {number} loadSeconds
 * @returns {Judgement}
 */
export function judge(measured, kit, loadSeconds) {
  const { losses, reference, kl } = measured;
  const here = meanAndError(losses, kit.weighting);
  const host = meanAndError(reference, kit.weighting);
  const gap = meanAndError(losses.map((x, i) => x.map((v, j) => v - reference[i][j])), kit.weighting);
  const ppl = Math.exp(Math.min(here.mean, 700));
  const delta = Math.expm1(Math.min(here.mean - host.mean, 700));
  return {
    tokens: kl.length,
    ppl,
    stderr: ppl * here.error,
    reference_ppl: Math.exp(host.mean),
    delta_ppl: delta,
    delta_stderr: (1 + delta) * gap.error,
    allowed: kit.tolerances.fp32,
    passed: Math.abs(delta) <= kit.tolerances.fp32,
    kl_mean: total(kl) / kl.length,
    kl_p99: percentile(kl, 99),
    top1_agreement: measured.same / kl.length,
    prefill_tokens_per_s: measured.prefillTokensPerSecond,
    decode_tokens_per_s: measured.decodeTokensPerSecond,
    load_s: loadSeconds,
    nll: losses.flatMap((x) => [...x]),
    reference_nll: reference.flatMap((x) => [...x]),
  };
}

/**
 * @param {Judgement} judgement
 * @returns {string[]} Why it failed; empty if it passed.
 */
export function reasons(judgement) {
  if (judgement.passed) return [];
  const percent = (/** @type {number} */ x, /** @type {number} */ digits) => `${(100 * x).toFixed(digits)}%`;
  const sign = judgement.delta_ppl >= 0 ? '+' : '';
  return [
    `fp32 compute: perplexity differs by ${sign}${percent(judgement.delta_ppl, 4)} from the host's, ` +
      `${percent(judgement.allowed, 2)} is allowed`,
  ];
}

/**
 * @param {Judgement} judgement
 * @param {import('./manifest.js').Kit} kit
 * @param {string | null} kitHash sha256 of kit.json.
 * @param {Record<string, unknown>} device
 * @param {number} peakBytes
 * @param {number[]} counts Predicted tokens of every window judged.
 * @returns {Record<string, unknown>}
 */
export function resultJson(judgement, kit, kitHash, device, peakBytes, counts) {
  return {
    format: 1,
    kind: 'result',
    kit: kitHash,
    model: kit.model,
    counts,
    protocol: kit.protocol,
    weighting: kit.weighting,
    device,
    computes: { fp32: judgement },
    peak_memory_mb: peakBytes / 1e6,
    passed: judgement.passed,
    reasons: reasons(judgement),
  };
}
