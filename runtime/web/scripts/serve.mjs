/**
 * A static server for the page: npm start [-- --port 8080] [-- --models DIR].
 *
 * It sends the two headers (COOP, COEP) without which a browser gives a page no threads. DIR is served under
 * /models/, so that http://localhost:8080/?model=models/NAME/ opens DIR/NAME.
 */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const PAGE = fileURLToPath(new URL('..', import.meta.url));
/** @type {Record<string, string>} */
const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.mjs': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
};

const { values } = parseArgs({
  options: { port: { type: 'string', default: '8080' }, models: { type: 'string' } },
});
const models = values.models === undefined ? null : resolve(values.models);

/**
 * The file behind a path of the address, or null if it would lead out of the served folders.
 *
 * @param {string} path
 * @returns {string | null}
 */
function fileOf(path) {
  const clean = normalize(decodeURIComponent(path)).replace(/^[/\\]+/, '');
  const inModels = models !== null && clean.startsWith(`models${sep}`);
  const root = inModels ? models : resolve(PAGE);
  const file = resolve(join(root, inModels ? clean.slice(7) : clean || 'index.html'));
  return file.startsWith(root + sep) ? file : null;
}

const server = createServer(async (request, response) => {
  response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
  response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
  response.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
  response.setHeader('Cache-Control', 'no-cache');
  try {
    const file = fileOf(new URL(request.url ?? '/', 'http://localhost').pathname);
    const size = file === null ? null : await stat(file);
    if (file === null || size === null || !size.isFile()) throw new Error('not found');
    response.setHeader('Content-Type', TYPES[extname(file)] ?? 'application/octet-stream');
    response.setHeader('Content-Length', size.size);
    createReadStream(file).pipe(response);
  } catch {
    response.writeHead(404).end('not found');
  }
});
server.listen(Number(values.port), '127.0.0.1', () => {
  console.log(`http://localhost:${values.port}/${models === null ? '' : `   (models of ${models} under /models/)`}`);
});
