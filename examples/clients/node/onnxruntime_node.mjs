// Text from an exported folder with onnxruntime-node alone: a greedy loop around a cache that grows.
//
//   (cd examples/clients/node && npm ci)
//   node examples/clients/node/onnxruntime_node.mjs FOLDER "The people of the United States" [int8 | fp32] [64]
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { argv, stdout } from "node:process";

import { isProgram, missing, readFolder } from "./folder.mjs";

const { Tokenizer } = await import("@huggingface/tokenizers").catch(missing);
const { InferenceSession, Tensor } = await import("onnxruntime-node").catch(missing);

/** @param {string} folder @param {"int8" | "fp32"} [compute] */
export async function openModel(folder, compute = "int8") {
  const { graph, options } = await readFolder(folder, compute);
  return InferenceSession.create(join(folder, graph), options);
}

const int64 = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
const emptyCache = ({ name, type, shape }) => [name, new Tensor(type, [], [1, shape[1], 0, shape[3]])];

/** The `count` tokens that follow `ids` (number[]), one by one; end-of-text does not stop it. */
export async function* greedy(session, ids, count) {
  let past = Object.fromEntries(session.inputMetadata.filter((x) => x.name.startsWith("past")).map(emptyCache));
  for (let fed = ids, total = ids.length, made = 0; made < count; made += 1, total += 1) {
    const positions = fed.map((_, i) => total - fed.length + i);
    const feeds = { input_ids: int64(fed), attention_mask: int64(Array(total).fill(1)), position_ids: int64(positions) };
    const { logits, ...present } = await session.run({ ...feeds, ...past });
    past = Object.fromEntries(Object.entries(present).map(([k, v]) => [k.replace("present", "past_key_values"), v]));
    const last = logits.data.subarray(-logits.dims[2]); // [1, S, V]: those of the last position
    fed = [last.indexOf(last.reduce((a, b) => Math.max(a, b)))];
    yield fed[0];
  }
}

/** The greedy continuation of `prompt`, piece by piece, up to the model's end-of-text. */
export async function* write(session, folder, prompt, count) {
  const read = async (name) => JSON.parse(await readFile(join(folder, name), "utf8"));
  const tokenizer = new Tokenizer(await read("tokenizer.json"), await read("tokenizer_config.json"));
  const stops = [(await read("generation_config.json")).eos_token_id].flat();
  const made = [];
  let shown = "";
  for await (const token of greedy(session, tokenizer.encode(prompt).ids, count)) {
    if (stops.includes(token)) return;
    made.push(token);
    const text = tokenizer.decode(made, { skip_special_tokens: true });
    if (text.endsWith("\uFFFD")) continue; // half of a character
    yield text.slice(shown.length);
    shown = text;
  }
}

if (isProgram(import.meta.url)) {
  const [folder, prompt, compute = "int8", count = "64"] = argv.slice(2);
  stdout.write(prompt);
  for await (const piece of write(await openModel(folder, compute), folder, prompt, Number(count))) stdout.write(piece);
  stdout.write("\n");
}
