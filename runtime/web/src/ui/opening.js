/** The first section: opening a model, and what is known of it. */
import { remarks } from '../capabilities.js';
import { fillList, find, show } from './dom.js';
import { duration, megabytes } from './format.js';

/**
 * @typedef {import('../capabilities.js').Capabilities} Capabilities
 * @typedef {import('../model.js').Facts} Facts
 */

/**
 * @param {string | null} message Null takes it away.
 */
export function showError(message) {
  const line = find('error', HTMLElement);
  line.textContent = message ?? '';
  line.hidden = message === null;
  if (message !== null) line.scrollIntoView({ block: 'nearest' });
}

/** @param {string[]} notes */
export function showNotes(notes) {
  const items = notes.map((note) => Object.assign(document.createElement('li'), { textContent: note }));
  find('notes', HTMLElement).replaceChildren(...items);
}

/** Before a model is read: nothing of the last one remains. */
export function clear() {
  for (const id of ['facts', 'generation', 'validation']) show(id, false);
  showError(null);
  showLoading({ stage: 'reading', done: 0, total: 0 });
}

/**
 * @param {{ stage: string, done: number, total: number } | null} progress Null when it is over.
 */
export function showLoading(progress) {
  show('loading', progress !== null);
  if (progress === null) return;
  const bar = find('loading-bar', HTMLProgressElement);
  find('loading-stage', HTMLElement).textContent = `${progress.stage} …`;
  if (progress.total > 0) bar.value = progress.done / progress.total;
  else bar.removeAttribute('value');
}

/**
 * @param {Facts} facts
 * @param {Capabilities} can
 */
export function showFacts(facts, can) {
  document.body.classList.add('compact');
  showNotes([...remarks(can), ...speedNotes(facts), ...facts.warnings]);
  fillList('facts', [
    ['Model', facts.source, 'fact-source'],
    ['Profile', facts.cacheBits === 8 ? `${facts.profile}, 8-bit cache` : facts.profile],
    ['Size', megabytes(facts.bytes)],
    ['Context, vocabulary', `${facts.context.toLocaleString('en')}, ${facts.vocabSize.toLocaleString('en')}`],
    ['Files read and checked in', duration(facts.readSeconds)],
    ['Model opened in', duration(facts.loadSeconds), 'fact-load'],
    ['Memory after loading (WebAssembly)', megabytes(facts.memory), 'fact-memory'],
    ['Memory of the whole page', 'measuring …', 'fact-page-memory'],
    ['Threads', `${facts.threads} of ${can.cores}`, 'fact-threads'],
    ['SIMD', can.simd ? 'yes' : 'no', 'fact-simd'],
    ['Browser', can.browser],
    ['onnxruntime-web', facts.onnxruntime],
  ]);
  showPageMemory();
}

/**
 * @param {Facts} facts
 * @returns {string[]}
 */
function speedNotes(facts) {
  if (facts.profile !== 'native') return [];
  return [
    'The native profile computes exactly here but slowly: WebAssembly has no 4-bit kernel and unfolds every matrix for ' +
      'every token. For speed, export the model with --profile web.',
  ];
}

/**
 * Chrome tells the memory of the page with all its workers after its next garbage collection; where threads wait for
 * work, that may not come before they have some.
 */
async function showPageMemory() {
  const cell = find('fact-page-memory', HTMLElement);
  const tool = /** @type {{ measureUserAgentSpecificMemory?: () => Promise<{ bytes: number }> }} */ (/** @type {unknown} */ (performance));
  try {
    const bytes = (await tool.measureUserAgentSpecificMemory?.())?.bytes;
    cell.textContent = bytes === undefined ? 'this browser does not tell' : megabytes(bytes);
  } catch {
    cell.textContent = 'this browser does not tell';
  }
}
