// Text from an exported folder with transformers.js in Node, as a stream.
//
//   (cd examples/clients/node && npm ci)
//   node examples/clients/node/transformers_js.mjs FOLDER "The people of the United States" [int8 | fp32] [64]
import { posix, resolve } from "node:path";
import { argv, stdout } from "node:process";

import { isProgram, missing, readFolder } from "./folder.mjs";

const transformers = await import("@huggingface/transformers").catch(missing);
const { AutoModelForCausalLM, AutoTokenizer, Tensor, TextStreamer, env } = transformers;

env.allowRemoteModels = false; // a missing file is an error, not a download

/**
 * @param {string} folder Folder of dareq-edge: the web profile, or any other as it is.
 * @param {"int8" | "fp32"} [compute]
 */
export async function openModel(folder, compute = "int8") {
  const { graph, options } = await readFolder(folder, compute);
  const { dir, name } = posix.parse(graph);
  // To transformers.js, dtype is the end of a file name: "onnx/model_q4.onnx" is q4, "model.onnx" is "fp32".
  const dtype = name.endsWith("_q4") ? "q4" : "fp32";
  return AutoModelForCausalLM.from_pretrained(resolve(folder), { subfolder: dir, dtype, session_options: options });
}

/** The `count` tokens that follow `ids` (number[]); end-of-text does not stop it. */
export async function greedy(model, ids, count) {
  const input_ids = new Tensor("int64", ids, [1, ids.length]);
  const out = await model.generate({ inputs: input_ids, max_new_tokens: count, do_sample: false, eos_token_id: null });
  return out.tolist()[0].slice(ids.length).map(Number);
}

/** The greedy continuation of `prompt` as text; `emit` is given every word as it is made. */
export async function write(model, folder, prompt, count, emit = () => {}) {
  const tokenizer = await AutoTokenizer.from_pretrained(resolve(folder));
  const streamer = new TextStreamer(tokenizer, { skip_prompt: true, skip_special_tokens: true, callback_function: emit });
  const inputs = tokenizer(prompt);
  const out = await model.generate({ ...inputs, max_new_tokens: count, do_sample: false, streamer });
  return tokenizer.decode(out.tolist()[0].slice(inputs.input_ids.dims[1]), { skip_special_tokens: true });
}

if (isProgram(import.meta.url)) {
  const [folder, prompt, compute = "int8", count = "64"] = argv.slice(2);
  stdout.write(prompt);
  await write(await openModel(folder, compute), folder, prompt, Number(count), (text) => stdout.write(text));
  stdout.write("\n");
}
