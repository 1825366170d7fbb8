/** What dareq.json says about opening a folder: one reader for all Node clients. */
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import process, { argv } from "node:process";
import { fileURLToPath } from "node:url";

const LEVELS = {
  ORT_DISABLE_ALL: "disabled",
  ORT_ENABLE_BASIC: "basic",
  ORT_ENABLE_EXTENDED: "extended",
  ORT_ENABLE_LAYOUT: "layout",
  ORT_ENABLE_ALL: "all",
};

/**
 * @param {string} folder Folder that dareq-edge exported.
 * @param {"int8" | "fp32"} [compute] int8 as shipped, fp32 exact.
 * @returns {Promise<{graph: string, options: object}>} The graph's file within the folder, and options of a session.
 */
export async function readFolder(folder, compute = "int8") {
  const path = join(folder, "dareq.json");
  const manifest = JSON.parse(await readFile(path, "utf8").catch(() => fail(`there is no ${path}; give a folder that dareq-edge exported`)));
  const settings = manifest.sessions?.[compute];
  if (!settings) fail(`${path} names no session for ${compute}; export the folder again, or give int8 or fp32`);
  const options = { graphOptimizationLevel: LEVELS[settings.optimization], extra: settings.entries, logSeverityLevel: 3 };
  return { graph: manifest.graph, options };
}

/** Whether the module of this URL is what node was started with. */
export function isProgram(url) {
  return fileURLToPath(url) === resolve(argv[1]);
}

/** For `import(…).catch(missing)`: one sentence for a package that is not installed. */
export function missing(error) {
  if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
  return fail(`${error.message.split(" imported from")[0]}; run npm ci in examples/clients/node`);
}

/** @returns {never} */
function fail(message) {
  console.error(message);
  process.exit(1);
}
