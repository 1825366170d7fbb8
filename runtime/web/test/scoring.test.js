/** Golden values: dareq_runtime/scoring.py and kit/validate.py on the same numbers. */
import assert from 'node:assert/strict';
import test from 'node:test';

import { judge } from '../src/result.js';
import { divergence, meanAndError, percentile, readRow } from '../src/scoring.js';

const V = 7;
const LOGITS = Float32Array.from({ length: 3 * V }, (_, i) => Math.fround(Math.sin(i * 1.7)) * 4);
const HOST = Float32Array.from({ length: 3 * V }, (_, i) => Math.fround(Math.cos(i * 1.3)) * 3);
const TARGETS = [2, 0, 6];
const TOP = [[0, 5, 4], [3, 2, 4], [5, 0, 1]];
const LOGP = [
  [-0.8390883207321167, -0.9093254804611206, -2.4335384368896484],
  [-0.43182483315467834, -1.2113760709762573, -3.6405084133148193],
  [-1.082802414894104, -1.4172037839889526, -1.4188162088394165],
];
const CLOSE = 1e-6; // float32 sines of two libraries

const row = (/** @type {Float32Array} */ x, /** @type {number} */ i) => x.subarray(i * V, (i + 1) * V);
const near = (/** @type {number} */ a, /** @type {number} */ b, tolerance = CLOSE) =>
  assert.ok(Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(b)), `${a} is not ${b}`);
const waves = (/** @type {number[]} */ counts) =>
  counts.map((c, i) => Float64Array.from({ length: c }, (_, j) => 2 + Math.sin(0.37 * j + i)));

test('losses of single tokens', () => {
  const expected = [5.47482128, 6.9924733, 2.10922671];
  TARGETS.forEach((target, i) => near(readRow(row(LOGITS, i)).logSum - row(LOGITS, i)[target], expected[i]));
});

test('a row of large logits does not overflow, and the first of equal ones is the best', () => {
  const { logSum, best } = readRow(Float32Array.of(1000, 1000));
  near(logSum, 1000 + Math.log(2));
  assert.equal(best, 0);
});

test('divergence over the likeliest tokens and the rest', () => {
  const expected = [1.544856880777309, 5.607934877148672, 1.7506397943622651];
  TOP.forEach((ids, i) => {
    const { logSum } = readRow(row(LOGITS, i));
    near(divergence(row(LOGITS, i), logSum, Int32Array.from(ids), Float32Array.from(LOGP[i])), expected[i]);
  });
});

test('divergence over all tokens is the whole one, and a lower bound of it over some', () => {
  const expected = [1.6775835651342983, 5.673196514980822, 2.0170913383405082];
  const all = Int32Array.from({ length: V }, (_, i) => i);
  expected.forEach((whole, i) => {
    const host = readRow(row(HOST, i));
    const here = readRow(row(LOGITS, i));
    near(divergence(row(LOGITS, i), here.logSum, all, row(HOST, i).map((x) => x - host.logSum)), whole);
  });
});

test('divergence from itself is 0', () => {
  const { logSum } = readRow(row(HOST, 0));
  const ids = Int32Array.of(0, 5, 4);
  near(divergence(row(HOST, 0), logSum, ids, Float32Array.from(ids, (id) => HOST[id] - logSum)), 0);
});

test('mean and error: few windows, many, weighted by window, and one short one', () => {
  /** @type {[number[], "token" | "window", number, number][]} */
  const cases = [
    [Array(3).fill(70), 'token', 2.0187796447885913, 0.039662094904608626],
    [Array(12).fill(5), 'token', 2.0018206567636225, 0.18996242558943915],
    [Array(4).fill(9), 'window', 2.045876544298647, 0.269112569773803],
    [[3], 'token', 2.345301114531036, 0.19482099874582523],
    [[3, 40, 7], 'window', 2.161058169402038, 0.09576727308273132],
    [[3, 40, 7], 'token', 2.1154378597744734, 0.04431612131119052],
  ];
  for (const [counts, weighting, mean, error] of cases) {
    const found = meanAndError(waves(counts), weighting);
    near(found.mean, mean, 1e-12);
    near(found.error, error, 1e-10);
  }
});

test('one token gives no error', () => {
  assert.throws(() => meanAndError([Float64Array.of(1)], 'token'), /Fewer than 2 tokens/);
});

test('percentiles as numpy interpolates them', () => {
  const values = Float64Array.from({ length: 11 }, (_, i) => Math.sin(i));
  near(percentile(values, 99), 0.9813521646436119, 1e-12);
  near(percentile(values, 50), 0.1411200080598672, 1e-12);
});

test('a perplexity beyond the tolerance fails, and a NaN does not pass', () => {
  const kit = /** @type {any} */ ({ weighting: 'token', tolerances: { fp32: 1e-4 } });
  const verdict = (/** @type {number} */ shift) => {
    const reference = waves(Array(12).fill(5));
    const measured = { losses: reference.map((x) => x.map((v) => v + shift)), reference, kl: new Float64Array(60), same: 60,
      prefillTokensPerSecond: 1, decodeTokensPerSecond: 1 };
    return judge(measured, kit, 1);
  };
  assert.equal(verdict(9e-5).passed, true);
  assert.equal(verdict(1.1e-4).passed, false);
  assert.equal(verdict(-1.1e-4).passed, false);
  assert.equal(verdict(NaN).passed, false);
  near(verdict(1.1e-4).delta_ppl, Math.expm1(1.1e-4), 1e-9);
});
