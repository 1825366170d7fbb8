/** The onnxruntime session of an exported folder, and what its inputs and outputs promise. */
import { firstLine, isOutOfMemory, PageError } from './errors.js';

/**
 * @typedef {import('./onnxruntime.js').Ort} Ort
 * @typedef {import('onnxruntime-web').InferenceSession} InferenceSession
 * @typedef {import('./manifest.js').Manifest} Manifest
 * @typedef {import('./manifest.js').SessionSettings} SessionSettings
 *
 * @typedef {object} Graph An open session and its shape facts.
 * @property {Ort} ort
 * @property {InferenceSession} session
 * @property {Set<string>} inputs Names of the inputs that are not cache.
 * @property {{ past: string, present: string }[]} caches
 * @property {"float32" | "int8"} cacheType
 * @property {[number, number]} cacheShape Heads and their size.
 * @property {number} vocabSize
 */

const PAST = 'past_key_values.';

/** onnxruntime's names of optimization levels, as the manifest has them, and onnxruntime-web's. */
const LEVELS = /** @type {const} */ ({
  ORT_DISABLE_ALL: 'disabled',
  ORT_ENABLE_BASIC: 'basic',
  ORT_ENABLE_EXTENDED: 'extended',
  ORT_ENABLE_LAYOUT: 'layout',
  ORT_ENABLE_ALL: 'all',
});

/** What keeps a matrix in memory once. */
const LEAN = { 'session.disable_prepacking': '1' };

/** What exact compute takes where an older folder does not say. @type {Record<string, SessionSettings>} */
const EXACT = {
  native: { entries: { 'session.disable_prepacking': '1' } },
  portable: { entries: { 'session.disable_quant_qdq': '1' } },
  web: { entries: { 'session.disable_quant_qdq': '1' } },
};

/**
 * Open a model in exact (fp32) compute, the only one that WebAssembly has.
 *
 * @param {Ort} ort
 * @param {Manifest} manifest
 * @param {Map<string, Uint8Array>} files Of the folder; the model's own are taken out, so that memory is given back.
 * @param {boolean} lean Without packed copies of the matrices: half the memory, and prompts are read slower.
 * @returns {Promise<Graph>}
 * @throws {PageError} onnxruntime refuses the file, or it lacks the agreed inputs and outputs.
 */
export async function openGraph(ort, manifest, files, lean) {
  const { model, data } = takeModel(manifest.graph, files);
  let session;
  try {
    session = await ort.InferenceSession.create(model, {
      ...settings(manifest, lean),
      executionProviders: ['wasm'],
      externalData: data,
      logSeverityLevel: 3,
    });
  } catch (error) {
    if (isOutOfMemory(error)) throw error;
    const version = ort.env.versions.web;
    throw new PageError(`onnxruntime-web ${version} cannot load ${manifest.graph} (${firstLine(error)}); export it again.`);
  }
  return describeGraph(ort, session, manifest.graph);
}

/**
 * @param {Manifest} manifest
 * @param {boolean} lean
 * @returns {import('onnxruntime-web').InferenceSession.SessionOptions}
 */
export function settings(manifest, lean) {
  const chosen = manifest.sessions.fp32 ?? EXACT[manifest.profile];
  const level = LEVELS[/** @type {keyof typeof LEVELS} */ (chosen.optimization ?? 'ORT_ENABLE_ALL')];
  if (level === undefined) {
    throw new PageError(`dareq.json asks for optimization ${chosen.optimization}, which this page does not know; update it.`);
  }
  return { graphOptimizationLevel: level, extra: nested({ ...chosen.entries, ...(lean ? LEAN : {}) }) };
}

/**
 * { "session.a": "1" } as onnxruntime-web wants it: { session: { a: "1" } }.
 *
 * @param {Record<string, string>} entries
 * @returns {Record<string, unknown>}
 */
export function nested(entries) {
  /** @type {Record<string, any>} */
  const tree = {};
  for (const [key, value] of Object.entries(entries)) {
    const parts = key.split('.');
    let node = tree;
    for (const part of parts.slice(0, -1)) node = node[part] ??= {};
    node[parts[parts.length - 1]] = value;
  }
  return tree;
}

/**
 * The graph and the files beside it that hold its weights: model.onnx and model.onnx.data, model_q4.onnx_data_1 …
 *
 * @param {string} graph
 * @param {Map<string, Uint8Array>} files
 * @returns {{ model: Uint8Array, data: { path: string, data: Uint8Array }[] }}
 */
function takeModel(graph, files) {
  const model = files.get(graph);
  if (model === undefined) throw new PageError(`${graph} is missing; copy or export the folder again.`);
  const folder = graph.slice(0, graph.lastIndexOf('/') + 1);
  const names = [...files.keys()].filter((name) => name !== graph && name.startsWith(graph));
  const data = names.map((name) => ({
    path: name.slice(folder.length),
    data: /** @type {Uint8Array} */ (files.get(name)),
  }));
  for (const name of [graph, ...names]) files.delete(name);
  return { model, data };
}

/**
 * @param {Ort} ort
 * @param {InferenceSession} session
 * @param {string} name For messages.
 * @returns {Graph}
 */
function describeGraph(ort, session, name) {
  const inputs = new Map(session.inputMetadata.map((m) => [m.name, m]));
  const pasts = session.inputNames.filter((n) => n.startsWith(PAST));
  const caches = pasts.map((past) => ({ past, present: `present.${past.slice(PAST.length)}` }));
  const first = inputs.get(`${PAST}0.key`);
  const logits = session.outputMetadata.find((m) => m.name === 'logits');
  if (!inputs.has('input_ids') || !inputs.has('attention_mask') || !first?.isTensor || !logits?.isTensor) {
    throw new PageError(`${name} lacks the agreed inputs and outputs; export it with dareq-edge export.`);
  }
  const [heads, size, vocabSize] = [first.shape[1], first.shape[3], logits.shape[2]];
  const known = logits.type === 'float32' && (first.type === 'float32' || first.type === 'int8');
  if (!known || typeof heads !== 'number' || typeof size !== 'number' || typeof vocabSize !== 'number') {
    throw new PageError(
      `${name} has a cache of ${first.type} and logits of ${logits.type}, which this page cannot hold; export it again.`,
    );
  }
  return {
    ort,
    session,
    inputs: new Set(session.inputNames.filter((n) => !n.startsWith(PAST))),
    caches,
    cacheType: /** @type {"float32" | "int8"} */ (first.type),
    cacheShape: [heads, size],
    vocabSize,
  };
}
