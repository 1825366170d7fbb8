/** The page's side of the worker: requests as promises, and what happens meanwhile as calls. */
import { PageError, Stopped } from './errors.js';

/**
 * @typedef {Record<string, (value: any) => void>} Handlers By the type of a message: progress, text, window.
 */

/** One worker, one request at a time; opening another model starts a fresh worker, which gives all memory back. */
export class Client {
  /** @type {Worker | null} */
  #worker = null;
  #next = 0;
  /** @type {import('./model.js').Facts | null} Of the open model. */
  facts = null;
  /** @type {{ id: number, resolve: (value: any) => void, reject: (error: Error) => void, on: Handlers } | null} */
  #pending = null;

  /**
   * @param {import('./source.js').Given} given
   * @param {number} threads
   * @param {Handlers} on
   * @returns {Promise<import('./model.js').Facts>}
   */
  async open(given, threads, on) {
    this.facts = null;
    this.#worker?.terminate();
    this.#worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = (event) => {
      this.#fail(new PageError(`The worker stopped (${event.message || 'it could not start'}); reload the page and open the model again.`));
    };
    this.facts = await this.#ask('open', { given, threads }, on);
    return /** @type {import('./model.js').Facts} */ (this.facts);
  }

  /**
   * @param {import('./model.js').GenerationRequest} request
   * @param {Handlers} on
   * @returns {Promise<import('./generate.js').Generation & { promptTokens: number }>}
   */
  generate(request, on) {
    return this.#ask('generate', { request }, on);
  }

  /**
   * @param {number} tokens Infinity for all.
   * @param {Handlers} on
   * @returns {Promise<any>} The content of result.json.
   */
  validate(tokens, on) {
    return this.#ask('validate', { tokens }, on);
  }

  /** Ask the request in progress to end; it rejects with `Stopped`. */
  stop() {
    this.#worker?.postMessage({ kind: 'stop' });
  }

  /**
   * @param {string} kind
   * @param {Record<string, unknown>} content
   * @param {Handlers} on
   * @returns {Promise<any>}
   */
  #ask(kind, content, on) {
    this.#fail(new Stopped());
    return new Promise((resolve, reject) => {
      this.#next += 1;
      this.#pending = { id: this.#next, resolve, reject, on };
      this.#worker?.postMessage({ id: this.#next, kind, ...content });
    });
  }

  /** @param {{ id: number, type: string, value: any }} message */
  #receive({ id, type, value }) {
    if (this.#pending?.id !== id) return;
    if (type !== 'done' && type !== 'error') {
      this.#pending.on[type]?.(value);
      return;
    }
    const { resolve } = this.#pending;
    if (type === 'error') {
      this.#fail(value.stopped ? new Stopped() : new PageError(value.message));
      return;
    }
    this.#pending = null;
    resolve(value);
  }

  /** @param {Error} error */
  #fail(error) {
    const pending = this.#pending;
    this.#pending = null;
    pending?.reject(error);
  }
}
