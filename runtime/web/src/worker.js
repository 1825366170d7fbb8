/**
 * The worker: everything that takes time, so that the page stays alive. It answers one request at a time.
 *
 *     { id, kind: "open", given, threads }      -> progress*, opened
 *     { id, kind: "generate", request }         -> text*, generated
 *     { id, kind: "validate", tokens }          -> progress*, window*, validated
 *     { kind: "stop" }                          the request in progress ends with an error named "Stopped"
 */
import { describe } from './errors.js';
import { Model } from './model.js';

/** @type {Model | null} */
let model = null;
let stopRequested = false;

self.onmessage = async ({ data }) => {
  if (data.kind === 'stop') {
    stopRequested = true;
    return;
  }
  stopRequested = false;
  const send = (/** @type {string} */ type, /** @type {unknown} */ value) => self.postMessage({ id: data.id, type, value });
  try {
    send('done', await answer(data, send));
  } catch (error) {
    send('error', { message: describe(error), stopped: error instanceof Error && error.name === 'Stopped' });
  }
};

/**
 * @param {any} data
 * @param {(type: string, value: unknown) => void} send
 * @returns {Promise<unknown>}
 */
async function answer(data, send) {
  const stopped = () => stopRequested;
  if (data.kind === 'open') {
    model = null; // the old one's memory is needed
    model = await Model.open(data.given, data.threads, (stage, done, total) => send('progress', { stage, done, total }));
    return model.facts;
  }
  if (model === null) throw new Error('no model is open');
  if (data.kind === 'generate') return model.generate(data.request, (text, ids) => send('text', { text, ids }), stopped);
  return model.validate(
    data.tokens,
    (done, total) => send('progress', { stage: 'predicting', done, total }),
    (window) => send('window', window),
    stopped,
  );
}
