/**
 * Keeps every file of the page, and answers from there when the network does not. A file that the network has is
 * always taken from there, so that an update is seen at once.
 */

const CACHE = 'dareq-edge-web';

/** Every file of the page; a test compares this list with the folder. */
const FILES = [
  './',
  'index.html',
  'style.css',
  'icon.svg',
  'src/app.js',
  'src/bpe.js',
  'src/capabilities.js',
  'src/client.js',
  'src/decoder.js',
  'src/device.js',
  'src/errors.js',
  'src/evaluation.js',
  'src/folder.js',
  'src/generate.js',
  'src/manifest.js',
  'src/memory.js',
  'src/model.js',
  'src/npy.js',
  'src/offline.js',
  'src/onnxruntime.js',
  'src/opening.js',
  'src/pause.js',
  'src/random.js',
  'src/result.js',
  'src/sampling.js',
  'src/scoring.js',
  'src/session.js',
  'src/source.js',
  'src/text.js',
  'src/ui/dom.js',
  'src/ui/format.js',
  'src/ui/generation.js',
  'src/ui/opening.js',
  'src/ui/picking.js',
  'src/ui/plot.js',
  'src/ui/validation.js',
  'src/validate.js',
  'src/worker.js',
  'src/zip.js',
  'vendor/ort.wasm.min.mjs',
  'vendor/ort-wasm-simd-threaded.mjs',
  'vendor/ort-wasm-simd-threaded.wasm',
  'vendor/tokenizers.min.mjs',
];

self.addEventListener('install', (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)));
});

self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

self.addEventListener('fetch', (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== 'GET' || url.origin !== self.location.origin) return;
  event.respondWith(answer(event.request));
});

/**
 * @param {Request} request
 * @returns {Promise<Response>}
 */
async function answer(request) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok && (await cache.match(request, { ignoreSearch: true }))) await cache.put(bare(request), response.clone());
    return isolated(response);
  } catch (error) {
    const kept = await cache.match(request, { ignoreSearch: true });
    if (kept === undefined) throw error;
    return isolated(kept);
  }
}

/**
 * The address without its query: ?model=… must not be kept once per model.
 *
 * @param {Request} request
 * @returns {string}
 */
function bare(request) {
  return request.url.split(/[?#]/)[0];
}

/**
 * The same response with the headers without which a browser gives a page no threads.
 *
 * @param {Response} response
 * @returns {Response}
 */
function isolated(response) {
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set('Cross-Origin-Opener-Policy', 'same-origin');
  headers.set('Cross-Origin-Embedder-Policy', 'require-corp');
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
