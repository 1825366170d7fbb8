// Greedy tokens of both Node clients as JSON, for tests and comparisons.
//
// Standard input:  {"client": "transformers_js" | "onnxruntime_node", "folder", "compute", "count", "prompts": [[id, …], …],
//                   "text": string | null}
// Standard output: {"tokens": [[id, …], …], "text": the continuation of "text" | null, "onnxruntime": version}
import { readFile } from "node:fs/promises";
import { stdin, stdout } from "node:process";
import { text } from "node:stream/consumers";

const request = JSON.parse(await text(stdin));
const client = await import(`./${request.client}.mjs`);
const model = await client.openModel(request.folder, request.compute);
const tokens = [];
for (const prompt of request.prompts) tokens.push(await collect(client.greedy(model, prompt, request.count)));
let written = null;
if (request.text) {
  const pieces = [];
  const result = client.write(model, request.folder, request.text, request.count, (piece) => pieces.push(piece));
  const whole = result[Symbol.asyncIterator] ? (await collect(result)).join("") : await result;
  written = whole;
  if (pieces.length && pieces.join("") !== whole) throw new Error(`streamed ${pieces.join("")}, returned ${whole}`);
}
const runtime = JSON.parse(await readFile(new URL("node_modules/onnxruntime-node/package.json", import.meta.url)));
stdout.write(JSON.stringify({ tokens, text: written, onnxruntime: runtime.version }));

/** What an async iterable yields, or what a promise holds, as a list. */
async function collect(source) {
  if (!source[Symbol.asyncIterator]) return await source;
  const items = [];
  for await (const item of source) items.push(item);
  return items;
}
