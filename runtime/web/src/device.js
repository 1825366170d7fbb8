/** What computed a result, in the fields of validate.py's record where a browser can fill them. */

/**
 * @param {import('./capabilities.js').Capabilities} can
 * @param {number} threads
 * @param {string} onnxruntime Version of onnxruntime-web.
 * @returns {Record<string, unknown>}
 */
export function describeDevice(can, threads, onnxruntime) {
  return {
    cpu: `${can.cores} cores as ${can.browser} reports them`,
    features: ['wasm', ...(can.simd ? ['wasm-simd'] : []), ...(threads > 1 ? ['wasm-threads'] : [])],
    cores: can.cores,
    machine: 'wasm32',
    system: can.browser,
    python: null,
    onnxruntime: `web ${onnxruntime}`,
    numpy: null,
    threads,
  };
}
