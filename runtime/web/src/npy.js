/** NumPy's .npy format, the three types that a kit holds. */
import { PageError } from './errors.js';

/** @type {Record<string, (buffer: ArrayBuffer) => Float64Array | Float32Array | Int32Array | BigInt64Array>} */
const TYPES = {
  '<f8': (b) => new Float64Array(b),
  '<f4': (b) => new Float32Array(b),
  '<i4': (b) => new Int32Array(b),
  '<i8': (b) => new BigInt64Array(b),
};

/**
 * @param {Uint8Array} bytes The file.
 * @param {string} name For messages.
 * @returns {{ data: Float64Array | Float32Array | Int32Array | BigInt64Array, shape: number[] }}
 * @throws {PageError} It is not an array in C order of int32, int64, float32 or float64.
 */
export function readNpy(bytes, name) {
  const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
  if (bytes.length < 12 || magic.some((b, i) => bytes[i] !== b)) {
    throw new PageError(`${name} is not a NumPy array; make the kit again.`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wide = bytes[6] >= 2;
  const start = wide ? 12 : 10;
  const end = start + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder('latin1').decode(bytes.subarray(start, end));
  const type = header.match(/'descr':\s*'([^']+)'/)?.[1] ?? '';
  const shape = (header.match(/'shape':\s*\(([^)]*)\)/)?.[1] ?? '').split(',').filter((s) => s.trim()).map(Number);
  const make = TYPES[type];
  if (make === undefined || !/'fortran_order':\s*False/.test(header)) {
    throw new PageError(`${name} holds ${type || 'an unknown type'}; expected int32, int64, float32 or float64 in C order.`);
  }
  const data = make(bytes.slice(end).buffer);
  if (data.length !== shape.reduce((a, b) => a * b, 1)) {
    throw new PageError(`${name} has ${data.length} values but its shape is ${shape}; make the kit again.`);
  }
  return { data, shape };
}

/**
 * Whole numbers of any of the types.
 *
 * @param {Uint8Array} bytes
 * @param {string} name
 * @returns {Int32Array}
 */
export function readIds(bytes, name) {
  return Int32Array.from(readNpy(bytes, name).data, Number);
}
