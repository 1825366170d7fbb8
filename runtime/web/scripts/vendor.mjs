/**
 * Copies the few files of the npm packages that the page loads into vendor/, which any static server can serve.
 * The WebAssembly file of onnxruntime-web is the one for CPUs (SIMD; threads where the browser isolates the page).
 */
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const ROOT = new URL('../', import.meta.url);

/** Package and files, each relative to the package; they keep their names. */
const FILES = {
  'onnxruntime-web': [
    'dist/ort.wasm.min.mjs',
    'dist/ort-wasm-simd-threaded.mjs',
    'dist/ort-wasm-simd-threaded.wasm',
  ],
  '@huggingface/tokenizers': ['dist/tokenizers.min.mjs'],
};

await rm(new URL('vendor', ROOT), { recursive: true, force: true });
await mkdir(new URL('vendor', ROOT), { recursive: true });
/** @type {Record<string, string>} */
const versions = {};
for (const [name, files] of Object.entries(FILES)) {
  const source = new URL(`node_modules/${name}/`, ROOT);
  versions[name] = JSON.parse(await readFile(new URL('package.json', source), 'utf8')).version;
  for (const file of files) {
    await copyFile(new URL(file, source), new URL(`vendor/${file.split('/').at(-1)}`, ROOT));
  }
}
await writeFile(new URL('vendor/versions.json', ROOT), `${JSON.stringify(versions, null, 1)}\n`);
console.log(`${fileURLToPath(new URL('vendor', ROOT))}: ${JSON.stringify(versions)}`);
