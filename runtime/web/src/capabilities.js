/** What this browser can do, and what the page says about it. */

/**
 * @typedef {object} Capabilities
 * @property {boolean} wasm WebAssembly exists.
 * @property {boolean} simd It has 128-bit vectors, without which onnxruntime-web does not run.
 * @property {boolean} isolated The page is cross-origin isolated, so threads may share memory.
 * @property {boolean} secure The page came by https or from this machine, so that sha256 is available.
 * @property {number} cores Cores the browser admits to; 1 if it does not say.
 * @property {number | null} memoryGb Memory of the device as the browser rounds it (Chrome says at most 8 or 32).
 * @property {string} browser Name and version.
 */

/** A module with one function that uses a vector instruction: (func (result v128) i32.const 0, i8x16.splat, popcnt). */
const SIMD_MODULE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

/** Most threads that are of use: decoding is bound by memory. */
const MOST_THREADS = 4;

/**
 * Look at this browser.
 *
 * @param {typeof globalThis} scope Window or worker.
 * @returns {Capabilities}
 */
export function inspect(scope) {
  const wasm = typeof scope.WebAssembly === 'object';
  const nav = /** @type {Navigator & { deviceMemory?: number }} */ (scope.navigator);
  return {
    wasm,
    simd: wasm && scope.WebAssembly.validate(SIMD_MODULE),
    isolated: scope.crossOriginIsolated === true,
    secure: typeof scope.crypto?.subtle === 'object',
    cores: nav?.hardwareConcurrency ?? 1,
    memoryGb: nav?.deviceMemory ?? null,
    browser: browserName(nav?.userAgent ?? ''),
  };
}

/**
 * Threads to use: onnxruntime-web's own choice, half the cores (they may be halves of real ones, and the page and the
 * system want some), or one alone where threads cannot share memory.
 *
 * @param {Capabilities} can
 * @returns {number}
 */
export function threadsFor(can) {
  return can.isolated ? Math.max(1, Math.min(MOST_THREADS, Math.ceil(can.cores / 2))) : 1;
}

/**
 * What keeps the page from working at all; null if nothing does.
 *
 * @param {Capabilities} can
 * @returns {string | null}
 */
export function obstacle(can) {
  if (!can.wasm) {
    return 'This browser has no WebAssembly, or it is switched off; use a current Chrome, Edge, Firefox or Safari.';
  }
  if (!can.simd) {
    return (
      'This browser has no WebAssembly SIMD, which onnxruntime-web needs; ' +
      'use Chrome or Edge 91, Firefox 89, Safari 16.4 or newer.'
    );
  }
  if (!can.secure) {
    return 'This page was not loaded securely, so files cannot be checked; open it by https or from localhost.';
  }
  return null;
}

/**
 * What the page does without, and what it costs.
 *
 * @param {Capabilities} can
 * @returns {string[]}
 */
export function remarks(can) {
  if (can.isolated) return [];
  return [
    'One thread only: this page is not cross-origin isolated, so WebAssembly may not share memory between threads. ' +
      'Serve it with the headers "Cross-Origin-Opener-Policy: same-origin" and "Cross-Origin-Embedder-Policy: ' +
      'require-corp" (npm start does), or allow its service worker, which adds them.',
  ];
}

/**
 * Name and version from a user agent string.
 *
 * @param {string} agent
 * @returns {string}
 */
export function browserName(agent) {
  const rules = [
    [/Edg\/([\d.]+)/, 'Edge'],
    [/OPR\/([\d.]+)/, 'Opera'],
    [/Firefox\/([\d.]+)/, 'Firefox'],
    [/HeadlessChrome\/([\d.]+)/, 'headless Chrome'],
    [/Chrome\/([\d.]+)/, 'Chrome'],
    [/Version\/([\d.]+).*Safari/, 'Safari'],
  ];
  for (const [pattern, name] of rules) {
    const found = agent.match(pattern);
    if (found) return `${name} ${found[1]}`;
  }
  return agent || 'unknown browser';
}
