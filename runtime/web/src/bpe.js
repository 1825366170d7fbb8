/** GPT-2's kind of tokenizer from vocab.json and merges.txt, for folders without a tokenizer.json. */

const SPECIAL = ['<s>', '<pad>', '</s>', '<unk>', '<|endoftext|>'];

/**
 * The tokenizer.json that these two files stand for; the same that dareq_runtime/tokenizer.py builds.
 *
 * @param {Record<string, number>} vocab
 * @param {string} merges Content of merges.txt.
 * @param {string | null} bos Token that starts every text, e.g. OPT's "</s>".
 * @returns {Record<string, unknown>}
 */
export function byteLevelBpe(vocab, merges, bos) {
  const lines = merges.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#version'));
  const level = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL.filter((t) => t in vocab).map((content) => ({
      id: vocab[content],
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: level,
    post_processor: bos === null ? null : template(bos, vocab[bos]),
    decoder: level,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab,
      merges: lines.map((line) => line.replace('\r', '')),
    },
  };
}

/**
 * @param {string} bos
 * @param {number} id
 * @returns {Record<string, unknown>}
 */
function template(bos, id) {
  const special = { SpecialToken: { id: bos, type_id: 0 } };
  return {
    type: 'TemplateProcessing',
    single: [special, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [special, { Sequence: { id: 'A', type_id: 0 } }, special, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: { [bos]: { id: bos, ids: [id], tokens: [bos] } },
  };
}
