/** What the page reads of an exported folder besides the graph. */
import { PageError } from './errors.js';

const CONTEXT_KEYS = ['max_position_embeddings', 'n_positions', 'max_sequence_length', 'seq_length'];

/**
 * @param {Map<string, Uint8Array>} files
 * @returns {import('./generate.js').Limits}
 * @throws {PageError} config.json is missing or does not say how long a context is.
 */
export function readLimits(files) {
  const config = json(files, 'config.json');
  const generation = files.has('generation_config.json') ? json(files, 'generation_config.json') : {};
  const key = CONTEXT_KEYS.find((k) => Number.isInteger(config[k]) && config[k] > 0);
  if (key === undefined) throw new PageError(`config.json has no ${CONTEXT_KEYS[0]}; export the folder again.`);
  const eos = generation.eos_token_id ?? config.eos_token_id ?? [];
  return { context: config[key], stopIds: new Set([eos].flat()) };
}

/**
 * @param {Map<string, Uint8Array>} files
 * @param {string} name
 * @returns {Record<string, any>}
 */
function json(files, name) {
  const bytes = files.get(name);
  if (bytes === undefined) throw new PageError(`${name} is missing; copy or export the folder again.`);
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new PageError(`${name} is not valid JSON; copy or export the folder again.`);
  }
}
