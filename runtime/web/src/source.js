/** Where files come from: a folder the reader chose, a zip, or an address. All three answer the same question. */
import { PageError } from './errors.js';
import { readDirectory, readMember } from './zip.js';

/**
 * @typedef {object} Source
 * @property {string} label For messages: the folder's or file's name, or the address.
 * @property {(name: string) => Promise<Blob | null>} blob A file by its path in the folder; null if it is not there.
 */

/**
 * What the page hands to its worker; blobs cross without being read.
 *
 * @typedef {{ files: [string, Blob][] } | { url: string }} Given
 */

/** The files that mark the root of something of ours; a kit holds a folder, so it comes first. */
export const MARKS = ['kit.json', 'dareq.json'];

/**
 * @param {Given} given
 * @returns {Promise<Source>}
 * @throws {PageError} There is nothing, or a zip cannot be read.
 */
export async function openSource(given) {
  if ('url' in given) return given.url.endsWith('.zip') ? zipSource(await fetched(given.url), given.url) : remote(given.url);
  if (given.files.length === 0) throw new PageError('There is no file in this folder; open one that dareq-edge wrote.');
  const [name, blob] = given.files[0];
  if (given.files.length === 1 && /\.zip$/i.test(name)) return zipSource(blob, name);
  const files = new Map(given.files);
  return fromPaths(files, name.split('/')[0], async (path) => files.get(path) ?? null);
}

/**
 * @param {Blob} blob
 * @param {string} label
 * @returns {Promise<Source>}
 */
async function zipSource(blob, label) {
  const members = await readDirectory(blob);
  return fromPaths(members, label, async (path) => {
    const member = members.get(path);
    return member === undefined ? null : readMember(blob, path, member);
  });
}

/**
 * A source over paths that may all start with a common folder.
 *
 * @param {Map<string, unknown>} paths
 * @param {string} label
 * @param {(path: string) => Promise<Blob | null>} read
 * @returns {Source}
 */
function fromPaths(paths, label, read) {
  const prefix = rootOf([...paths.keys()]);
  if (prefix === null) {
    throw new PageError(
      `There is no kit.json or dareq.json among the ${paths.size} files of ${label}; ` +
        'open a folder that dareq-edge export or dareq-edge bundle wrote.',
    );
  }
  return { label, blob: (name) => read(prefix + name) };
}

/**
 * The folder, with its slash, that holds the marker nearest to the top; null if there is none.
 *
 * @param {string[]} paths
 * @returns {string | null}
 */
export function rootOf(paths) {
  for (const mark of MARKS) {
    const roots = paths.filter((p) => p === mark || p.endsWith(`/${mark}`)).map((p) => p.slice(0, -mark.length));
    if (roots.length > 0) return roots.reduce((a, b) => (b.split('/').length < a.split('/').length ? b : a));
  }
  return null;
}

/**
 * @param {string} url Of a folder.
 * @returns {Source}
 */
function remote(url) {
  const base = url.endsWith('/') ? url : `${url}/`;
  return {
    label: url,
    blob: async (name) => {
      const response = await fetch(base + name.split('/').map(encodeURIComponent).join('/')).catch(() => null);
      if (response === null) throw new PageError(`${base}${name} cannot be reached; check the address and the network.`);
      return response.ok ? response.blob() : null;
    },
  };
}

/**
 * @param {string} url
 * @returns {Promise<Blob>}
 */
async function fetched(url) {
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) throw new PageError(`${url} cannot be reached; check the address and the network.`);
  return response.blob();
}
