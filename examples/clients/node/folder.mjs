/** What dareq.json says about opening a folder: one reader for all Node clients. */
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { argv } from "node:process";
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
  const manifest = JSON.parse(await readFile(join(folder, "dareq.json"), "utf8"));
  const settings = manifest.sessions?.[compute];
  if (!settings) throw new Error(`dareq.json in ${folder} names no session for ${compute}; export the folder again`);
  const options = { graphOptimizationLevel: LEVELS[settings.optimization], extra: settings.entries, logSeverityLevel: 3 };
  return { graph: manifest.graph, options };
}

/** Whether the module of this URL is what node was started with. */
export function isProgram(url) {
  return fileURLToPath(url) === resolve(argv[1]);
}
