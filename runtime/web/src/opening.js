/** Opening a folder or kit: every listed file read once, compared with its sha256, and kept if the page needs it. */
import { PageError } from './errors.js';
import { readKit, readManifest } from './manifest.js';

/**
 * @typedef {import('./manifest.js').Manifest} Manifest
 * @typedef {import('./manifest.js').Kit} Kit
 * @typedef {import('./manifest.js').FileEntry} FileEntry
 * @typedef {import('./source.js').Source} Source
 *
 * @typedef {object} Described What a source holds, before its large files are read.
 * @property {Source} source
 * @property {Manifest} manifest
 * @property {Kit | null} kit
 * @property {string | null} kitHash sha256 of kit.json.
 * @property {string} root Where the model lies within the source: "" or "model/".
 *
 * @typedef {object} Contents
 * @property {Map<string, Uint8Array>} model Files of the exported folder by name.
 * @property {Map<string, Uint8Array>} kit Other files of the kit by name.
 */

/** Most bytes that a browser reads into one array; the data of a larger model cannot be opened. */
const MOST_BYTES = 2 ** 31 - 1;

/**
 * Read the small files that say what is there.
 *
 * @param {Source} source
 * @returns {Promise<Described>}
 * @throws {PageError} It is not one of ours.
 */
export async function describeSource(source) {
  const kitFile = await source.blob('kit.json');
  const kitBytes = kitFile === null ? null : new Uint8Array(await kitFile.arrayBuffer());
  const kit = kitBytes === null ? null : readKit(new TextDecoder().decode(kitBytes));
  const root = kit === null ? '' : 'model/';
  const file = await source.blob(`${root}dareq.json`);
  if (file === null) {
    throw new PageError(`There is no ${root}dareq.json in ${source.label}; open a folder that dareq-edge export or bundle wrote.`);
  }
  const manifest = readManifest(await file.text());
  const kitHash = kitBytes === null ? null : await sha256(kitBytes);
  const digest = await (await source.blob('kit.sha256'))?.text();
  if (kitHash !== null && digest !== undefined && !digest.startsWith(kitHash)) {
    throw new PageError('kit.json is corrupt: it does not match kit.sha256; copy the kit again.');
  }
  return { source, manifest, kit, kitHash, root };
}

/**
 * Read and check every listed file.
 *
 * @param {Described} described
 * @param {(done: number, total: number, name: string) => void} progress Bytes.
 * @returns {Promise<Contents>}
 * @throws {PageError} A file is missing, has another size or another content; it is named.
 */
export async function readContents(described, progress) {
  const { source, manifest, kit, root } = described;
  const listed = kit === null ? manifest.files : kit.files;
  const total = Object.values(listed).reduce((sum, entry) => sum + entry.bytes, 0);
  /** @type {Contents} */
  const contents = { model: new Map(), kit: new Map() };
  let done = 0;
  for (const [name, entry] of Object.entries(listed)) {
    const bytes = await checked(source, name, entry, kit === null ? 'dareq.json' : 'kit.json');
    const inModel = kit === null || name.startsWith(root);
    if (inModel) contents.model.set(name.slice(root.length), bytes);
    else contents.kit.set(name, bytes);
    done += entry.bytes;
    progress(done, total, name);
  }
  return contents;
}

/**
 * @param {Source} source
 * @param {string} name
 * @param {FileEntry} entry
 * @param {string} list Which file lists it.
 * @returns {Promise<Uint8Array>}
 */
async function checked(source, name, entry, list) {
  if (entry.bytes > MOST_BYTES) {
    throw new PageError(`${name} has ${(entry.bytes / 1e9).toFixed(1)} GB, a browser reads at most 2.1; open a smaller model.`);
  }
  const blob = await source.blob(name);
  if (blob === null) throw new PageError(`${name} is missing from ${source.label}; copy or export the folder again.`);
  if (blob.size !== entry.bytes) {
    throw new PageError(`${name} has ${blob.size} bytes, expected ${entry.bytes}; copy it again.`);
  }
  const bytes = new Uint8Array(await blob.arrayBuffer());
  if ((await sha256(bytes)) !== entry.sha256) {
    throw new PageError(`${name} is corrupt: it does not match its sha256 in ${list}; copy or export it again.`);
  }
  return bytes;
}

/**
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {Promise<string>} Lower-case hex.
 */
export async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...digest].map((b) => b.toString(16).padStart(2, '0')).join('');
}
