/** Memory: what a model will need, before it is loaded, and what it takes, once it is. */
import { PageError } from './errors.js';

/** What 32-bit WebAssembly can address. */
export const WASM_LIMIT = 4 * 2 ** 30;

/** onnxruntime itself, and the work of a chunk of tokens. */
const BASE = 120e6;

/** Above this many bytes the packed copies of the matrices, which make reading a prompt faster, are done without. */
const LEAN_ABOVE = 1.5 * 2 ** 30;

/**
 * @typedef {object} Need
 * @property {number} bytes Of WebAssembly memory.
 * @property {boolean} lean Without packed copies of the matrices.
 */

/**
 * What a model needs.
 *
 * Portable and web graphs are unfolded at load: 4 bytes for every weight, and as much again for a packed copy.
 * Native graphs keep the stored form, and unfold one matrix at a time on every run.
 *
 * @param {import('./manifest.js').Manifest} manifest
 * @returns {Need}
 */
export function estimate(manifest) {
  let [stored, unfolded, largest] = [0, 0, 0];
  for (const tensor of Object.values(manifest.tensors)) {
    if (tensor.shares !== null) continue;
    stored += tensor.bytes;
    if (tensor.bits >= 32 || tensor.shape.length < 2) continue;
    const bytes = 4 * tensor.shape.reduce((a, b) => a * b, 1);
    unfolded += bytes;
    largest = Math.max(largest, bytes);
  }
  if (manifest.profile === 'native') return { bytes: BASE + stored + largest, lean: false };
  const packed = BASE + stored + 2 * unfolded;
  return packed <= LEAN_ABOVE ? { bytes: packed, lean: false } : { bytes: packed - unfolded, lean: true };
}

/**
 * @param {import('./manifest.js').Manifest} manifest
 * @returns {Need}
 * @throws {PageError} The model cannot fit.
 */
export function requireFits(manifest) {
  const need = estimate(manifest);
  if (need.bytes <= WASM_LIMIT) return need;
  throw new PageError(
    `This model is too large for a browser: it needs about ${gigabytes(need.bytes)} GB of WebAssembly memory, ` +
      `which ends at ${gigabytes(WASM_LIMIT)} GB; open a smaller model, or run this one with dareq-edge run.`,
  );
}

/**
 * A warning where the device has little memory; null otherwise.
 *
 * @param {Need} need
 * @param {number | null} memoryGb As the browser tells it.
 * @returns {string | null}
 */
export function tightness(need, memoryGb) {
  if (memoryGb === null || need.bytes < 0.5 * memoryGb * 2 ** 30) return null;
  return (
    `This model needs about ${gigabytes(need.bytes)} GB, and the browser reports ${memoryGb} GB on this device; ` +
    'it may fail to load.'
  );
}

/**
 * @param {number} bytes
 * @returns {string}
 */
function gigabytes(bytes) {
  return (bytes / 2 ** 30).toFixed(1);
}

/**
 * Watch the WebAssembly memories that are created from now on, because onnxruntime-web keeps its own to itself.
 *
 * @param {typeof globalThis} scope The worker; only this scope is watched.
 * @returns {() => number} Bytes they have grown to; WebAssembly memory never shrinks, so this is also the peak.
 */
export function watchMemory(scope) {
  /** @type {WebAssembly.Memory[]} */
  const made = [];
  scope.WebAssembly.Memory = class extends scope.WebAssembly.Memory {
    /** @param {WebAssembly.MemoryDescriptor} descriptor */
    constructor(descriptor) {
      super(descriptor);
      made.push(this);
    }
  };
  return () => made.reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
}
