/**
 * Reading a .zip without unpacking it: the directory at its end, and one member at a time.
 *
 *     [local header, data] …  [directory entry] …  [end record]
 *                              ^ where, how many ----- is in here
 */
import { PageError } from './errors.js';

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const LOCAL = 0x04034b50;
const END_BYTES = 22;
const MOST_COMMENT = 65535;
const BEYOND = 0xffffffff;

/**
 * @typedef {object} Member
 * @property {number} method 0 stored, 8 deflated.
 * @property {number} packed Bytes in the file.
 * @property {number} size Bytes unpacked.
 * @property {number} offset Where its local header starts.
 */

/**
 * The members of a zip by name; folders are left out.
 *
 * @param {Blob} blob
 * @returns {Promise<Map<string, Member>>}
 * @throws {PageError} It is no zip, is cut off, or needs the 64-bit form.
 */
export async function readDirectory(blob) {
  const start = Math.max(0, blob.size - END_BYTES - MOST_COMMENT);
  const tail = new DataView(await blob.slice(start).arrayBuffer());
  let at = tail.byteLength - END_BYTES;
  while (at >= 0 && tail.getUint32(at, true) !== END) at -= 1;
  if (at < 0) throw new PageError('This file is not a zip, or it is cut off; copy it again.');
  const [count, size, offset] = [tail.getUint16(at + 10, true), tail.getUint32(at + 12, true), tail.getUint32(at + 16, true)];
  if (offset === BEYOND || size === BEYOND || count === 0xffff) {
    throw new PageError('This zip is larger than 4 GB; unpack it and open the folder.');
  }
  const view = new DataView(await blob.slice(offset, offset + size).arrayBuffer());
  return parseEntries(view, count);
}

/**
 * @param {DataView} view The directory.
 * @param {number} count Its entries.
 * @returns {Map<string, Member>}
 */
function parseEntries(view, count) {
  /** @type {Map<string, Member>} */
  const members = new Map();
  let at = 0;
  for (let i = 0; i < count; i += 1) {
    if (at + 46 > view.byteLength || view.getUint32(at, true) !== ENTRY) {
      throw new PageError('The directory of this zip is damaged; copy it again.');
    }
    const lengths = [28, 30, 32].map((field) => view.getUint16(at + field, true));
    const name = new TextDecoder().decode(new Uint8Array(view.buffer, view.byteOffset + at + 46, lengths[0]));
    const member = {
      method: view.getUint16(at + 10, true),
      packed: view.getUint32(at + 20, true),
      size: view.getUint32(at + 24, true),
      offset: view.getUint32(at + 42, true),
    };
    if (!name.endsWith('/')) members.set(name, member);
    at += 46 + lengths[0] + lengths[1] + lengths[2];
  }
  return members;
}

/**
 * The unpacked bytes of a member.
 *
 * @param {Blob} blob The zip.
 * @param {string} name For messages.
 * @param {Member} member
 * @returns {Promise<Blob>}
 * @throws {PageError} It is damaged, or packed in a way browsers cannot unpack.
 */
export async function readMember(blob, name, member) {
  const header = new DataView(await blob.slice(member.offset, member.offset + 30).arrayBuffer());
  if (header.byteLength < 30 || header.getUint32(0, true) !== LOCAL) {
    throw new PageError(`${name} in this zip is damaged; copy the zip again.`);
  }
  const begin = member.offset + 30 + header.getUint16(26, true) + header.getUint16(28, true);
  const packed = blob.slice(begin, begin + member.packed);
  if (member.method === 0) return packed;
  if (member.method !== 8) {
    throw new PageError(`${name} in this zip is packed by method ${member.method}; pack it with deflate, or unpack it.`);
  }
  try {
    return await new Response(packed.stream().pipeThrough(new DecompressionStream('deflate-raw'))).blob();
  } catch {
    throw new PageError(`${name} in this zip is damaged; copy the zip again.`);
  }
}
