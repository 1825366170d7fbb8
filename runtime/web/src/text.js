/** Text in and out, with Hugging Face's tokenizers.js alone. */
import { byteLevelBpe } from './bpe.js';
import { PageError } from './errors.js';

/**
 * @typedef {object} Codec
 * @property {(text: string) => number[]} encode Special tokens of the start included.
 * @property {(ids: number[]) => string} decode Special tokens left out.
 */

const VENDOR = new URL('../vendor/tokenizers.min.mjs', import.meta.url);

/**
 * The folder's tokenizer: tokenizer.json, else vocab.json and merges.txt, else null.
 *
 * @param {Map<string, Uint8Array>} files
 * @returns {Promise<Codec | null>}
 * @throws {PageError} The files cannot be read.
 */
export async function readTokenizer(files) {
  try {
    const config = json(files, 'tokenizer_config.json') ?? {};
    const tokenizer = json(files, 'tokenizer.json') ?? fromBpeFiles(files, config);
    if (tokenizer === null) return null;
    const { Tokenizer } = /** @type {typeof import('@huggingface/tokenizers')} */ (await import(VENDOR.href));
    const made = new Tokenizer(tokenizer, config);
    return {
      encode: (text) => made.encode(text).ids,
      decode: (ids) => (ids.length === 0 ? '' : made.decode(ids, { skip_special_tokens: true, clean_up_tokenization_spaces: false })),
    };
  } catch (error) {
    throw new PageError(`The tokenizer of this folder cannot be read (${error instanceof Error ? error.message : error}); copy it again.`);
  }
}

/**
 * @param {Map<string, Uint8Array>} files
 * @param {Record<string, any>} config
 * @returns {Record<string, unknown> | null}
 */
function fromBpeFiles(files, config) {
  const vocab = json(files, 'vocab.json');
  const merges = files.get('merges.txt');
  if (vocab === null || merges === undefined) return null;
  const bos = config.bos_token?.content ?? config.bos_token ?? null;
  return byteLevelBpe(vocab, new TextDecoder().decode(merges), config.add_bos_token ? bos : null);
}

/**
 * @param {Map<string, Uint8Array>} files
 * @param {string} name
 * @returns {Record<string, any> | null}
 */
function json(files, name) {
  const bytes = files.get(name);
  return bytes === undefined ? null : JSON.parse(new TextDecoder().decode(bytes));
}

/**
 * Text of a growing list of ids, given out as soon as it is certain; a character may be split over several tokens.
 * The text of the ids from a recent one on is taken twice, with and without the newest, because a decoder may treat
 * the first token of a text in a way of its own.
 */
export class TextStream {
  /** @type {Codec} */
  #codec;
  /** @type {number[]} */
  #ids = [];
  #from = 0;
  #read = 0;

  /** @param {Codec} codec */
  constructor(codec) {
    this.#codec = codec;
  }

  /**
   * @param {number} id
   * @returns {string} Text that this token completes; sometimes empty.
   */
  add(id) {
    this.#ids.push(id);
    const fresh = this.#fresh();
    if (fresh === '' || fresh.endsWith('\uFFFD')) return '';
    this.#from = this.#read;
    this.#read = this.#ids.length;
    return fresh;
  }

  /** @returns {string} What was held back: an incomplete character at the end. */
  finish() {
    return this.#fresh();
  }

  #fresh() {
    const before = this.#codec.decode(this.#ids.slice(this.#from, this.#read));
    return this.#codec.decode(this.#ids.slice(this.#from)).slice(before.length);
  }
}
