/** The generation loop: a prompt in, tokens out, one at a time. */
import { Decoder } from './decoder.js';
import { PageError, Stopped } from './errors.js';
import { nextTask } from './pause.js';
import { chooser } from './sampling.js';

/** Prompt tokens per pass; the head is evaluated for all of them, so a piece of a 50k vocabulary takes 13 MB. */
const CHUNK = 64;

/**
 * @typedef {object} Limits
 * @property {number} context Longest sequence, tokens.
 * @property {Set<number>} stopIds
 *
 * @typedef {object} Generation
 * @property {number[]} ids New tokens, the stop id included if one was met.
 * @property {"stop" | "length"} stopped
 * @property {number} promptSeconds From the start to the first token.
 * @property {number} seconds For all tokens after the first.
 */

/**
 * Continue a prompt.
 *
 * @param {import('./session.js').Graph} graph
 * @param {number[]} prompt
 * @param {{ maxNewTokens: number, sampling: import('./sampling.js').Sampling }} request
 * @param {Limits} limits
 * @param {(id: number) => void} onToken
 * @param {() => boolean} stopRequested
 * @returns {Promise<Generation>}
 * @throws {PageError} The prompt does not fit, or the reader stopped.
 */
export async function generate(graph, prompt, request, limits, onToken, stopRequested) {
  checkLengths(prompt, request.maxNewTokens, limits.context, graph.vocabSize);
  const choose = chooser(request.sampling);
  const decoder = new Decoder(graph);
  const begin = performance.now();
  /** @type {Float32Array} */
  let logits = new Float32Array(0);
  for (let start = 0; start < prompt.length; start += CHUNK) {
    logits = await decoder.feed(prompt.slice(start, start + CHUNK));
    await pauseOrStop(stopRequested);
  }
  const ids = [choose(logits.subarray(-graph.vocabSize))];
  onToken(ids[0]);
  const first = performance.now();
  while (!limits.stopIds.has(ids[ids.length - 1]) && ids.length < request.maxNewTokens) {
    logits = await decoder.feed([ids[ids.length - 1]]);
    const id = choose(logits.subarray(-graph.vocabSize));
    ids.push(id);
    onToken(id);
    await pauseOrStop(stopRequested);
  }
  return {
    ids,
    stopped: limits.stopIds.has(ids[ids.length - 1]) ? 'stop' : 'length',
    promptSeconds: (first - begin) / 1000,
    seconds: (performance.now() - first) / 1000,
  };
}

/** @param {() => boolean} stopRequested */
async function pauseOrStop(stopRequested) {
  await nextTask();
  if (stopRequested()) throw new Stopped();
}

/**
 * @param {number[]} prompt
 * @param {number} fresh New tokens.
 * @param {number} context
 * @param {number} vocabSize
 */
function checkLengths(prompt, fresh, context, vocabSize) {
  if (prompt.length === 0) throw new PageError('The prompt has no tokens; type something.');
  if (!Number.isInteger(fresh) || fresh < 1) throw new PageError('The number of new tokens must be 1 or more.');
  if (prompt.some((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize)) {
    throw new PageError(`The prompt holds token ids outside 0 … ${vocabSize - 1}; use the model's own tokenizer.`);
  }
  if (prompt.length >= context) {
    throw new PageError(`The prompt has ${prompt.length} tokens but the model's context is ${context}; shorten it.`);
  }
  if (prompt.length + fresh > context) {
    throw new PageError(
      `The prompt has ${prompt.length} tokens, and ${fresh} new ones exceed the model's context of ${context}; ` +
        `ask for ${context - prompt.length} or fewer.`,
    );
  }
}
