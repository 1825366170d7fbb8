/** Numbers for readers. */

/**
 * @param {number} bytes
 * @returns {string}
 */
export function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

/**
 * @param {number} seconds
 * @returns {string}
 */
export function duration(seconds) {
  return seconds < 60 ? `${seconds.toFixed(seconds < 10 ? 2 : 0)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

/**
 * @param {number} share
 * @returns {string} In percent, with its sign; three figures.
 */
export function signedPercent(share) {
  return `${share < 0 ? '−' : '+'}${small(Math.abs(100 * share))} %`;
}

/**
 * @param {number} rate
 * @returns {string}
 */
export function perSecond(rate) {
  return `${rate.toFixed(rate < 100 ? 1 : 0)} tokens/s`;
}

/**
 * @param {number} value
 * @returns {string} Small numbers in powers of ten.
 */
export function small(value) {
  if (value === 0) return '0';
  return Math.abs(value) < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}
