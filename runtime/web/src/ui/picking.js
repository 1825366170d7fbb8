/** Getting files from the reader: a folder, a zip, or what was dropped. */
import { find } from './dom.js';

/**
 * @typedef {[string, Blob][]} Files By their path.
 */

/**
 * Call back with the files whenever the reader chooses or drops some.
 *
 * @param {(files: Files) => void} onFiles
 */
export function listenForFiles(onFiles) {
  for (const [button, input] of [['open-folder', 'folder'], ['open-zip', 'zip']]) {
    const field = find(input, HTMLInputElement);
    find(button, HTMLButtonElement).addEventListener('click', () => field.click());
    field.addEventListener('change', () => {
      const files = [...(field.files ?? [])].map((f) => /** @type {[string, Blob]} */ ([f.webkitRelativePath || f.name, f]));
      field.value = ''; // choosing the same folder again must be noticed
      onFiles(files);
    });
  }
  const zone = find('drop', HTMLElement);
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    zone.classList.add('over');
  });
  document.addEventListener('dragleave', () => zone.classList.remove('over'));
  document.addEventListener('drop', async (event) => {
    event.preventDefault();
    zone.classList.remove('over');
    onFiles(await droppedFiles(event.dataTransfer));
  });
}

/**
 * @param {DataTransfer | null} transfer
 * @returns {Promise<Files>}
 */
async function droppedFiles(transfer) {
  const items = [...(transfer?.items ?? [])].filter((item) => item.kind === 'file');
  const entries = items.map((item) => item.webkitGetAsEntry() ?? item.getAsFile()); // valid until the first await
  const found = await Promise.all(entries.map((e) => (e instanceof File ? fileOf(e) : e === null ? [] : walk(e, ''))));
  return found.flat();
}

/**
 * @param {File} file
 * @returns {Files}
 */
function fileOf(file) {
  return [[file.name, file]];
}

/**
 * @param {FileSystemEntry} entry
 * @param {string} prefix Path of its folder, with a slash.
 * @returns {Promise<Files>}
 */
async function walk(entry, prefix) {
  const path = prefix + entry.name;
  if (entry.isFile) {
    const file = await new Promise((done, fail) => /** @type {FileSystemFileEntry} */ (entry).file(done, fail));
    return [[path, /** @type {File} */ (file)]];
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  /** @type {Files} */
  const files = [];
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const part = await new Promise((done, fail) => reader.readEntries(done, fail)); // a hundred at a time
    if (part.length === 0) return files;
    for (const child of part) files.push(...(await walk(child, `${path}/`)));
  }
}
