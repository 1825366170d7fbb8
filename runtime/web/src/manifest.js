/** dareq.json and kit.json: what they promise, checked before anything is used. */
import { PageError } from './errors.js';

/**
 * @typedef {{ bytes: number, sha256: string }} FileEntry
 * @typedef {{ optimization?: string, entries: Record<string, string> }} SessionSettings
 * @typedef {{ shape: number[], bits: number, bytes: number, shares: string | null }} TensorEntry
 *
 * @typedef {object} Manifest dareq.json of an exported folder.
 * @property {string} source
 * @property {string} profile "native", "portable" or "web".
 * @property {string} graph Path of the ONNX file within the folder.
 * @property {Record<string, SessionSettings>} sessions
 * @property {Record<string, TensorEntry>} tensors
 * @property {Record<string, FileEntry>} files
 *
 * @typedef {object} Kit kit.json.
 * @property {string} made_by
 * @property {{ source: string, profile: string, graph: string, vocab_size: number, context_length: number }} model
 * @property {string} protocol
 * @property {"token" | "window"} weighting
 * @property {number} chunk
 * @property {[number, number, number][]} windows Offset into tokens.npy, length, first predicted position.
 * @property {Record<string, Record<string, unknown> & { ppl: number, stderr: number }>} references
 * @property {Record<string, number>} tolerances
 * @property {Record<string, FileEntry>} files
 */

const FORMAT = 1;
const AGAIN = 'write the folder again, or update this page';

/**
 * @param {string} text
 * @param {string} name
 * @returns {Record<string, any>}
 */
function parsed(text, name) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    throw new PageError(`${name} is not valid JSON; copy the folder again.`);
  }
  if (data === null || typeof data !== 'object' || data.format !== FORMAT) {
    throw new PageError(`${name} has format ${JSON.stringify(data?.format)}, this page knows ${FORMAT}; ${AGAIN}.`);
  }
  return data;
}

/**
 * Every listed file has a size and a sha256, and none leads out of the folder.
 *
 * @param {Record<string, any>} data
 * @param {string} name
 */
function checkFiles(data, name) {
  if (data.files === null || typeof data.files !== 'object') throw new PageError(`${name} lists no files; ${AGAIN}.`);
  for (const [file, entry] of Object.entries(data.files)) {
    if (file.startsWith('/') || file.includes('\\') || file.split('/').includes('..')) {
      throw new PageError(`${name} lists ${file}, which leads out of the folder; do not use this folder.`);
    }
    if (!Number.isInteger(entry?.bytes) || !/^[0-9a-f]{64}$/.test(entry?.sha256)) {
      throw new PageError(`${name} lists ${file} without its size and sha256; ${AGAIN}.`);
    }
  }
}

/**
 * @param {string} text Content of dareq.json.
 * @returns {Manifest}
 * @throws {PageError} It is not one of ours, or of a kind or format that this page does not know.
 */
export function readManifest(text) {
  const data = parsed(text, 'dareq.json');
  if (data.kind !== 'onnx') {
    throw new PageError(`This folder holds a ${data.kind}, not an ONNX model; run dareq-edge export on it first.`);
  }
  checkFiles(data, 'dareq.json');
  const profile = data.profile ?? 'native';
  if (!['native', 'portable', 'web'].includes(profile)) {
    throw new PageError(`dareq.json names a profile ${profile} that this page does not know; update the page.`);
  }
  return {
    source: String(data.source),
    profile,
    graph: data.graph ?? 'model.onnx',
    sessions: data.sessions ?? {},
    tensors: data.tensors ?? {},
    files: data.files,
  };
}

/**
 * @param {string} text Content of kit.json.
 * @returns {Kit}
 * @throws {PageError} It is not one of ours, or of a kind or format that this page does not know.
 */
export function readKit(text) {
  const data = parsed(text, 'kit.json');
  if (data.kind !== 'kit') throw new PageError(`kit.json is a ${data.kind}, not a kit; make one with dareq-edge bundle.`);
  checkFiles(data, 'kit.json');
  for (const key of ['model', 'windows', 'references', 'tolerances', 'weighting', 'chunk']) {
    if (data[key] === undefined) throw new PageError(`kit.json lacks "${key}"; make the kit again with dareq-edge bundle.`);
  }
  if (data.references.fp32 === undefined) {
    throw new PageError('This kit has no fp32 reference, the compute of WebAssembly; make it again with dareq-edge bundle.');
  }
  return /** @type {Kit} */ (/** @type {unknown} */ (data));
}
