/** One sequence and its keys and values: tokens in, logits out. */
import { firstLine, isOutOfMemory, PageError } from './errors.js';

/**
 * @typedef {import('./session.js').Graph} Graph
 * @typedef {import('onnxruntime-web').Tensor} Tensor
 */

/** Feeds a sequence piece by piece; what a step gives as present is the next one's past. */
export class Decoder {
  /** @type {Graph} */
  #graph;
  /** @type {Record<string, Tensor>} */
  #past;
  #done = 0;

  /** @param {Graph} graph */
  constructor(graph) {
    this.#graph = graph;
    const { Tensor } = graph.ort;
    const shape = [1, graph.cacheShape[0], 0, graph.cacheShape[1]];
    const empty = () =>
      graph.cacheType === 'int8'
        ? new Tensor('int8', new Int8Array(0), shape)
        : new Tensor('float32', new Float32Array(0), shape);
    this.#past = Object.fromEntries(graph.caches.map(({ past }) => [past, empty()]));
  }

  /** Tokens fed so far. */
  get length() {
    return this.#done;
  }

  /**
   * Feed the next tokens.
   *
   * @param {ArrayLike<number>} ids At least one.
   * @returns {Promise<Float32Array>} Logits [ids, V], one row after the other.
   * @throws {PageError} onnxruntime fails.
   */
  async feed(ids) {
    const { session, caches, inputs } = this.#graph;
    const total = this.#done + ids.length;
    /** @type {Record<string, Tensor>} */
    const feeds = { ...this.#past, input_ids: this.#row(ids.length, (i) => ids[i]), attention_mask: this.#row(total, () => 1) };
    if (inputs.has('position_ids')) feeds.position_ids = this.#row(ids.length, (i) => this.#done + i);
    let outputs;
    try {
      outputs = await session.run(feeds);
    } catch (error) {
      if (isOutOfMemory(error)) throw error;
      throw new PageError(`onnxruntime-web failed in the model (${firstLine(error)}); export the model again.`);
    }
    this.#past = Object.fromEntries(caches.map(({ past, present }) => [past, /** @type {Tensor} */ (outputs[present])]));
    this.#done = total;
    return /** @type {Float32Array} */ (outputs.logits.data);
  }

  /**
   * @param {number} length
   * @param {(i: number) => number} value
   * @returns {Tensor} int64 [1, length]
   */
  #row(length, value) {
    const data = BigInt64Array.from({ length }, (_, i) => BigInt(value(i)));
    return new this.#graph.ort.Tensor('int64', data, [1, length]);
  }
}
