import assert from 'node:assert/strict';
import test from 'node:test';

import { randomStream } from '../src/random.js';
import { argmax, chooser, largest } from '../src/sampling.js';

const LOGITS = Float32Array.of(0, 2, 1, 2, -1);

/** Three numbers of sfc32 with seed (0, 0, 42) after 15 rounds, from an independent implementation. */
const GOLDEN = [2686069954, 3236264550, 1186848219];

test('greedy takes the first of the largest', () => {
  assert.equal(argmax(LOGITS), 1);
  assert.equal(chooser({ temperature: 0, topK: 3, seed: 1 })(LOGITS), 1);
});

test('the k largest, of equal ones the first', () => {
  assert.deepEqual([...largest(LOGITS, 1)], [1]);
  assert.deepEqual([...largest(LOGITS, 3)], [1, 2, 3]);
  assert.deepEqual([...largest(Float32Array.of(5, 5, 5), 2)], [0, 1]);
});

test('the same seed draws the same tokens, another seed others', () => {
  const draw = (/** @type {number} */ seed) => {
    const choose = chooser({ temperature: 1, topK: 0, seed });
    return Array.from({ length: 40 }, () => choose(LOGITS)).join('');
  };
  assert.equal(draw(7), draw(7));
  assert.notEqual(draw(7), draw(8));
});

test('tokens are drawn as often as their probabilities say', () => {
  const choose = chooser({ temperature: 0.7, topK: 4, seed: 3 });
  const counts = new Array(5).fill(0);
  const draws = 20000;
  for (let i = 0; i < draws; i += 1) counts[choose(LOGITS)] += 1;
  const weights = [0, 2, 1, 2].map((x) => Math.exp(x / 0.7));
  const sum = weights.reduce((a, b) => a + b);
  weights.forEach((w, i) => {
    const p = w / sum;
    assert.ok(Math.abs(counts[i] / draws - p) < 5 * Math.sqrt((p * (1 - p)) / draws), `token ${i}: ${counts[i]}`);
  });
  assert.equal(counts[4], 0); // cut off by top-k
});

test('random numbers are spread evenly, and fixed for all time', () => {
  const next = randomStream(42);
  const first = Array.from({ length: 3 }, () => Math.round(next() * 2 ** 32));
  assert.deepEqual(first, GOLDEN);
  const values = Array.from({ length: 10000 }, next);
  const mean = values.reduce((a, b) => a + b) / values.length;
  assert.ok(Math.abs(mean - 0.5) < 0.015);
  assert.ok(values.every((v) => v >= 0 && v < 1));
});

test('values out of range are refused in one sentence', () => {
  assert.throws(() => chooser({ temperature: -1, topK: 0, seed: 0 }), /temperature must be 0/);
  assert.throws(() => chooser({ temperature: NaN, topK: 0, seed: 0 }), /temperature must be 0/);
  assert.throws(() => chooser({ temperature: 1, topK: 1.5, seed: 0 }), /Top-k must be a whole number/);
  assert.throws(() => chooser({ temperature: 1, topK: 1, seed: -1 }), /seed must be a whole number/);
});
