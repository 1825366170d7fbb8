/** The page: its three sections, one model, one request at a time. */
import { inspect, obstacle, remarks, threadsFor } from './capabilities.js';
import { Client } from './client.js';
import { describe, Stopped } from './errors.js';
import { registerOffline } from './offline.js';
import { find } from './ui/dom.js';
import { setUpGeneration, showGeneration } from './ui/generation.js';
import { clear, showError, showFacts, showLoading, showNotes } from './ui/opening.js';
import { listenForFiles } from './ui/picking.js';
import { setUpValidation, showValidation } from './ui/validation.js';

/**
 * @typedef {import('./source.js').Given} Given
 */

const ACTIONS = ['generate', 'validate', 'open-folder', 'open-zip'];

/** @param {Client} client */
function setUp(client) {
  const can = inspect(window);
  const problem = obstacle(can);
  if (problem !== null) {
    showError(problem);
    for (const id of ACTIONS) find(id, HTMLButtonElement).disabled = true;
    return;
  }
  showNotes(remarks(can));
  const query = new URLSearchParams(location.search);
  const threads = Number(query.get('threads')) || threadsFor(can);
  const open = async (/** @type {Given} */ given) => {
    clear();
    try {
      const facts = await client.open(given, can.isolated ? threads : 1, { progress: showLoading });
      showFacts(facts, can);
      showGeneration(facts);
      showValidation(facts);
    } catch (error) {
      if (!(error instanceof Stopped)) showError(describe(error)); // stopped: another model was opened meanwhile
    } finally {
      showLoading(null);
    }
  };
  listenForFiles((files) => open({ files }));
  for (const id of ['stop-generation', 'stop-validation']) {
    find(id, HTMLButtonElement).addEventListener('click', () => client.stop());
  }
  setUpGeneration(client, busy);
  setUpValidation(client, busy);
  const model = query.get('model');
  if (model !== null) open({ url: new URL(model, location.href).href });
}

/**
 * Run one request; meanwhile nothing else can be asked for, but it can be stopped.
 *
 * @template T
 * @param {() => Promise<T>} work
 * @param {string} stop Id of its stop button.
 */
async function busy(work, stop) {
  const set = (/** @type {boolean} */ running) => {
    for (const id of ACTIONS) find(id, HTMLButtonElement).disabled = running;
    find(stop, HTMLButtonElement).disabled = !running;
  };
  showError(null);
  set(true);
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Stopped)) showError(describe(error));
  } finally {
    set(false);
  }
}

registerOffline();
setUp(new Client());
