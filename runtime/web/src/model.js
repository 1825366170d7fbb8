/** An opened folder or kit: what the page can ask of it. */
import { inspect, obstacle } from './capabilities.js';
import { describeDevice } from './device.js';
import { PageError } from './errors.js';
import { readEvaluation } from './evaluation.js';
import { readLimits } from './folder.js';
import { generate } from './generate.js';
import { requireFits, tightness, watchMemory } from './memory.js';
import { loadOnnxruntime } from './onnxruntime.js';
import { describeSource, readContents } from './opening.js';
import { judge, resultJson } from './result.js';
import { openGraph } from './session.js';
import { openSource } from './source.js';
import { readTokenizer, TextStream } from './text.js';
import { measure } from './validate.js';

/**
 * @typedef {object} Facts What the page shows of an opened model.
 * @property {string} source
 * @property {string} profile
 * @property {number} bytes Of all files read.
 * @property {number} context
 * @property {number} vocabSize
 * @property {number} cacheBits
 * @property {boolean} hasTokenizer
 * @property {{ protocol: string, tokens: number, windows: number, host: number } | null} kit
 * @property {number} readSeconds To read the files and compare their sha256.
 * @property {number} loadSeconds To open the session.
 * @property {number} memory Bytes of WebAssembly memory after loading.
 * @property {number} threads
 * @property {string} onnxruntime
 * @property {string[]} warnings
 *
 * @typedef {object} GenerationRequest
 * @property {string} prompt Text, or token ids where there is no tokenizer.
 * @property {number} maxNewTokens
 * @property {import('./sampling.js').Sampling} sampling
 */

/** Everything that was read of it. Made by `Model.open`. */
export class Model {
  /**
   * @param {object} parts
   * @param {import('./opening.js').Described} parts.described
   * @param {import('./session.js').Graph} parts.graph
   * @param {import('./generate.js').Limits} parts.limits
   * @param {import('./text.js').Codec | null} parts.codec
   * @param {import('./evaluation.js').Evaluation | null} parts.evaluation
   * @param {() => number} parts.memory
   * @param {Facts} parts.facts
   */
  constructor(parts) {
    this.parts = parts;
    this.facts = parts.facts;
  }

  /**
   * @param {import('./source.js').Given} given
   * @param {number} threads
   * @param {(stage: string, done: number, total: number) => void} progress
   * @returns {Promise<Model>}
   * @throws {PageError} It cannot be opened; the message says why.
   */
  static async open(given, threads, progress) {
    const can = inspect(globalThis);
    const problem = obstacle(can);
    if (problem !== null) throw new PageError(problem);
    const begin = performance.now();
    const described = await describeSource(await openSource(given));
    const { manifest, kit } = described;
    const need = requireFits(manifest);
    const contents = await readContents(described, (done, total) => progress('checking files', done, total));
    const limits = readLimits(contents.model);
    const codec = await readTokenizer(contents.model);
    const evaluation = kit === null ? null : readEvaluation(kit, contents.kit);
    const read = performance.now();
    progress('opening the model', 0, 0);
    const memory = watchMemory(globalThis);
    const ort = await loadOnnxruntime(threads);
    const graph = await openGraph(ort, manifest, contents.model, need.lean);
    const warning = tightness(need, can.memoryGb);
    const facts = {
      source: manifest.source,
      profile: manifest.profile,
      bytes: Object.values((kit ?? manifest).files).reduce((sum, f) => sum + f.bytes, 0),
      context: limits.context,
      vocabSize: graph.vocabSize,
      cacheBits: graph.cacheType === 'int8' ? 8 : 32,
      hasTokenizer: codec !== null,
      kit: kitFacts(kit),
      readSeconds: (read - begin) / 1000,
      loadSeconds: (performance.now() - read) / 1000,
      memory: memory(),
      threads,
      onnxruntime: ort.env.versions.web ?? 'unknown',
      warnings: warning === null ? [] : [warning],
    };
    return new Model({ described, graph, limits, codec, evaluation, memory, facts });
  }

  /**
   * @param {GenerationRequest} request
   * @param {(text: string, ids: number[]) => void} onText Text that became certain, and the ids since the last call.
   * @param {() => boolean} stopRequested
   * @returns {Promise<import('./generate.js').Generation & { promptTokens: number }>}
   */
  async generate(request, onText, stopRequested) {
    const { graph, limits, codec } = this.parts;
    const prompt = codec === null ? plainIds(request.prompt) : codec.encode(request.prompt);
    const stream = codec === null ? null : new TextStream(codec);
    const onToken = (/** @type {number} */ id) => onText(stream === null ? `${id} ` : stream.add(id), [id]);
    try {
      const made = await generate(graph, prompt, request, limits, onToken, stopRequested);
      return { ...made, promptTokens: prompt.length };
    } finally {
      onText(stream?.finish() ?? '', []);
    }
  }

  /**
   * @param {number} tokens Infinity for all.
   * @param {(done: number, total: number) => void} onPiece
   * @param {(window: import('./validate.js').WindowScore) => void} onWindow
   * @param {() => boolean} stopRequested
   * @returns {Promise<Record<string, unknown>>} The content of result.json.
   */
  async validate(tokens, onPiece, onWindow, stopRequested) {
    const { described, graph, evaluation, memory, facts } = this.parts;
    const { kit, kitHash } = described;
    if (kit === null || evaluation === null) {
      throw new PageError('This is a folder, not a kit; make one with dareq-edge bundle to validate it here.');
    }
    const measured = await measure(graph, evaluation, tokens, onPiece, onWindow, stopRequested);
    const device = describeDevice(inspect(globalThis), facts.threads, facts.onnxruntime);
    const counts = measured.losses.map((x) => x.length);
    return resultJson(judge(measured, kit, facts.loadSeconds), kit, kitHash, device, memory(), counts);
  }
}

/**
 * @param {import('./manifest.js').Kit | null} kit
 * @returns {Facts["kit"]}
 */
function kitFacts(kit) {
  if (kit === null) return null;
  const tokens = kit.windows.reduce((sum, [, length, first]) => sum + length - first, 0);
  return { protocol: kit.protocol, tokens, windows: kit.windows.length, host: kit.references.fp32.ppl };
}

/**
 * Token ids separated by spaces or commas.
 *
 * @param {string} text
 * @returns {number[]}
 */
function plainIds(text) {
  const words = text.split(/[\s,]+/).filter((w) => w !== '');
  if (words.some((w) => !/^\d+$/.test(w))) {
    throw new PageError('This folder has no tokenizer; give the prompt as token ids, for example: 2 100 7.');
  }
  return words.map(Number);
}
