/** onnxruntime-web, loaded from vendor/ and set up once per worker. */
import { PageError } from './errors.js';

const VENDOR = new URL('../vendor/', import.meta.url);

/**
 * @typedef {typeof import('onnxruntime-web')} Ort
 */

/**
 * @param {number} threads 1 or more; more than one needs a cross-origin isolated page.
 * @returns {Promise<Ort>}
 * @throws {PageError} The files are not there.
 */
export async function loadOnnxruntime(threads) {
  /** @type {Ort} */
  let ort;
  try {
    ort = await import(new URL('ort.wasm.min.mjs', VENDOR).href);
  } catch {
    throw new PageError('onnxruntime-web is not in vendor/; run "npm run setup" in runtime/web and reload the page.');
  }
  ort.env.logLevel = 'error';
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.proxy = false; // this is a worker already
  ort.env.wasm.wasmPaths = {
    mjs: new URL('ort-wasm-simd-threaded.mjs', VENDOR).href,
    wasm: new URL('ort-wasm-simd-threaded.wasm', VENDOR).href,
  };
  return ort;
}
