/** Perplexity of a kit on this device, window by window, beside the host's. */
import { Decoder } from './decoder.js';
import { Stopped } from './errors.js';
import { windowsFor } from './evaluation.js';
import { nextTask } from './pause.js';
import { divergence, readRow, total } from './scoring.js';

/** Most tokens decoded one by one to measure the speed, and how long that may take. */
const DECODE_TOKENS = 32;
const DECODE_SECONDS = 5;

/**
 * @typedef {import('./evaluation.js').Evaluation} Evaluation
 * @typedef {import('./session.js').Graph} Graph
 *
 * @typedef {object} WindowScore What the plot shows of a window.
 * @property {number} index
 * @property {number} nll Mean loss here, nats.
 * @property {number} reference Mean loss of the host.
 * @property {number} done Predicted tokens so far.
 * @property {number} total
 *
 * @typedef {object} Measured
 * @property {Float64Array[]} losses Per window, nats.
 * @property {Float64Array[]} reference The host's.
 * @property {Float64Array} kl Per predicted token, nats.
 * @property {number} same Tokens for which both rank the same first.
 * @property {number} prefillTokensPerSecond
 * @property {number} decodeTokensPerSecond
 */

/**
 * Read the first windows of a kit.
 *
 * @param {Graph} graph
 * @param {Evaluation} evaluation
 * @param {number} tokens Predicted tokens to judge at least; Infinity for all.
 * @param {(done: number, total: number) => void} onPiece Predicted tokens.
 * @param {(window: WindowScore) => void} onWindow
 * @param {() => boolean} stopRequested
 * @returns {Promise<Measured>}
 */
export async function measure(graph, evaluation, tokens, onPiece, onWindow, stopRequested) {
  const windows = evaluation.windows.slice(0, windowsFor(evaluation.windows, tokens));
  const all = windows.reduce((sum, [, length, first]) => sum + length - first, 0);
  const tally = new Tally(evaluation, all);
  /** @type {[number, number][]} */
  const passes = [];
  for (const [offset, length, first] of windows) {
    const decoder = new Decoder(graph);
    tally.openWindow(length - first);
    for (let start = 0; start < length; start += evaluation.chunk) {
      const piece = evaluation.ids.subarray(offset + start, offset + Math.min(start + evaluation.chunk, length));
      const begin = performance.now();
      const logits = await decoder.feed(piece);
      passes.push([piece.length, (performance.now() - begin) / 1000]);
      const last = Math.min(length - 1, start + piece.length);
      for (let row = Math.max(first - 1, start); row < last; row += 1) {
        const at = (row - start) * graph.vocabSize;
        tally.add(logits.subarray(at, at + graph.vocabSize), evaluation.ids[offset + row + 1]);
      }
      onPiece(tally.done, all);
      await nextTask();
      if (stopRequested()) throw new Stopped();
    }
    onWindow(tally.closeWindow(all));
  }
  const counted = passes.length > 1 ? passes.slice(1) : passes; // the first also warms up
  return {
    losses: tally.losses,
    reference: tally.reference,
    kl: tally.kl,
    same: tally.same,
    prefillTokensPerSecond: total(counted.map((p) => p[0])) / total(counted.map((p) => p[1])),
    decodeTokensPerSecond: await decodeSpeed(graph, evaluation),
  };
}

/** Losses, divergences and agreement, token by token. */
class Tally {
  /** @type {Evaluation} */
  #evaluation;
  done = 0;
  same = 0;
  /** @type {Float64Array[]} */
  losses = [];
  /** @type {Float64Array[]} */
  reference = [];
  #inWindow = 0;

  /**
   * @param {Evaluation} evaluation
   * @param {number} tokens
   */
  constructor(evaluation, tokens) {
    this.#evaluation = evaluation;
    this.kl = new Float64Array(tokens);
  }

  /** @param {number} predicted */
  openWindow(predicted) {
    this.losses.push(new Float64Array(predicted));
    this.reference.push(this.#evaluation.nll.slice(this.done, this.done + predicted));
    this.#inWindow = 0;
  }

  /**
   * @param {Float32Array} logits [V]
   * @param {number} target
   */
  add(logits, target) {
    const { top, logp, k } = this.#evaluation;
    const { logSum, best } = readRow(logits);
    const from = this.done * k;
    this.losses[this.losses.length - 1][this.#inWindow] = logSum - logits[target];
    this.kl[this.done] = divergence(logits, logSum, top.subarray(from, from + k), logp.subarray(from, from + k));
    this.same += best === top[from] ? 1 : 0;
    this.done += 1;
    this.#inWindow += 1;
  }

  /**
   * @param {number} all
   * @returns {WindowScore}
   */
  closeWindow(all) {
    const index = this.losses.length - 1;
    const mean = (/** @type {Float64Array} */ x) => total(x) / x.length;
    return { index, nll: mean(this.losses[index]), reference: mean(this.reference[index]), done: this.done, total: all };
  }
}

/**
 * Tokens per second, one by one, after the first half of a window.
 *
 * @param {Graph} graph
 * @param {Evaluation} evaluation
 * @returns {Promise<number>}
 */
async function decodeSpeed(graph, evaluation) {
  const [offset, length] = evaluation.windows[0];
  const half = length >> 1;
  const decoder = new Decoder(graph);
  if (half > 0) await decoder.feed(evaluation.ids.subarray(offset, offset + half));
  let [count, seconds] = [0, 0];
  while (count < DECODE_TOKENS && half + count < length && seconds < DECODE_SECONDS) {
    const begin = performance.now();
    await decoder.feed([evaluation.ids[offset + half + count]]);
    seconds += (performance.now() - begin) / 1000;
    count += 1;
  }
  return count / seconds;
}
