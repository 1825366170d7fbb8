/** What a folder promises, what it needs, how a session is opened, and text from tokens. */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import test from 'node:test';

import { inspect, obstacle, remarks, threadsFor } from '../src/capabilities.js';
import { windowsFor } from '../src/evaluation.js';
import { readKit, readManifest } from '../src/manifest.js';
import { estimate, requireFits, tightness } from '../src/memory.js';
import { nested, settings } from '../src/session.js';
import { TextStream } from '../src/text.js';
import { duration, megabytes, signedPercent, small } from '../src/ui/format.js';
import { axis } from '../src/ui/plot.js';

const FILE = { bytes: 1, sha256: '0'.repeat(64) };
const folder = (/** @type {Record<string, unknown>} */ more = {}) =>
  JSON.stringify({ format: 1, kind: 'onnx', source: 'x', tensors: {}, files: { 'model.onnx': FILE }, ...more });
const matrix = (/** @type {number} */ rows, /** @type {string | null} */ shares = null) => ({
  shape: [rows, 1024],
  bits: 4,
  bytes: rows * 512,
  shares,
});

test('an older folder is native, and says nothing of sessions', () => {
  const manifest = readManifest(folder());
  assert.equal(manifest.profile, 'native');
  assert.equal(manifest.graph, 'model.onnx');
  assert.deepEqual(settings(manifest, false), { graphOptimizationLevel: 'all', extra: { session: { disable_prepacking: '1' } } });
});

test('sessions are opened as dareq.json says, without packed copies where memory is short', () => {
  const sessions = { fp32: { optimization: 'ORT_ENABLE_BASIC', entries: { 'session.disable_quant_qdq': '1', 'a.b.c': 'd' } } };
  const manifest = readManifest(folder({ profile: 'web', sessions }));
  assert.deepEqual(settings(manifest, true), {
    graphOptimizationLevel: 'basic',
    extra: { session: { disable_quant_qdq: '1', disable_prepacking: '1' }, a: { b: { c: 'd' } } },
  });
  assert.deepEqual(nested({}), {});
});

test('what this page does not know is refused in one sentence', () => {
  /** @type {[string, RegExp][]} */
  const cases = [
    ['{', /not valid JSON/],
    [folder({ format: 2 }), /format 2, this page knows 1/],
    [folder({ kind: 'checkpoint' }), /holds a checkpoint, not an ONNX model; run dareq-edge export/],
    [folder({ profile: 'npu' }), /profile npu that this page does not know/],
    [folder({ files: { '../x': FILE } }), /leads out of the folder/],
    [folder({ files: { x: { bytes: 1 } } }), /without its size and sha256/],
  ];
  for (const [text, message] of cases) assert.throws(() => readManifest(text), message);
  assert.throws(() => readKit(folder()), /is a onnx, not a kit/);
  assert.throws(() => readKit(JSON.stringify({ format: 1, kind: 'kit', files: {} })), /lacks "model"/);
});

test('memory: unfolded twice, once where that is too much, and never where it cannot fit', () => {
  const of = (/** @type {number} */ rows, profile = 'web') =>
    readManifest(folder({ profile, tensors: { a: matrix(rows), b: matrix(rows, 'a') } }));
  const base = estimate(of(0)).bytes;
  assert.deepEqual(estimate(of(1000)), { bytes: base + 512e3 + 2 * 4096e3, lean: false });
  assert.deepEqual(estimate(of(300000)), { bytes: base + 153.6e6 + 1228.8e6, lean: true });
  assert.deepEqual(estimate(of(300000, 'native')), { bytes: base + 153.6e6 + 1228.8e6, lean: false });
  assert.throws(() => requireFits(of(2e6)), /too large for a browser: it needs about 8\.7 GB .* ends at 4\.0 GB/);
  assert.equal(tightness({ bytes: 1e9, lean: false }, null), null);
  assert.equal(tightness({ bytes: 1e9, lean: false }, 8), null);
  assert.match(tightness({ bytes: 1e9, lean: false }, 1) ?? '', /reports 1 GB on this device/);
});

test('browsers: without vectors, insecure, without shared memory', () => {
  const scope = (/** @type {object} */ more) =>
    /** @type {any} */ ({
      WebAssembly: { validate: () => true },
      navigator: { hardwareConcurrency: 4, userAgent: 'Mozilla/5.0 Chrome/150.0.0.0 Safari/537.36' },
      crypto: { subtle: {} },
      crossOriginIsolated: true,
      ...more,
    });
  assert.equal(obstacle(inspect(scope({}))), null);
  assert.equal(inspect(scope({})).browser, 'Chrome 150.0.0.0');
  assert.deepEqual(remarks(inspect(scope({}))), []);
  assert.equal(threadsFor(inspect(scope({}))), 2);
  assert.equal(threadsFor(inspect(scope({ navigator: { hardwareConcurrency: 64 } }))), 4);
  assert.match(obstacle(inspect(scope({ WebAssembly: undefined }))) ?? '', /no WebAssembly, or it is switched off/);
  assert.match(obstacle(inspect(scope({ WebAssembly: { validate: () => false } }))) ?? '', /no WebAssembly SIMD/);
  assert.match(obstacle(inspect(scope({ crypto: {} }))) ?? '', /not loaded securely/);
  const alone = inspect(scope({ crossOriginIsolated: false }));
  assert.equal(threadsFor(alone), 1);
  assert.match(remarks(alone)[0], /One thread only/);
});

test('the module that probes for vectors is valid', () => {
  assert.equal(inspect(globalThis).simd, true); // every Node this runs on has them
});

test('windows that hold so many tokens', () => {
  /** @type {[number, number, number][]} */
  const windows = [[0, 10, 1], [10, 10, 1], [20, 10, 1]];
  assert.equal(windowsFor(windows, Infinity), 3);
  assert.equal(windowsFor(windows, 9), 1);
  assert.equal(windowsFor(windows, 10), 2);
  assert.equal(windowsFor(windows, 0), 1);
});

test('a character split over tokens is held back until it is whole', () => {
  const parts = [[0x48, 0x69], [0xf0, 0x9f], [0x98, 0x80], [0x21], [0xc3]];
  const codec = {
    encode: () => [],
    decode: (/** @type {number[]} */ ids) => new TextDecoder().decode(Uint8Array.from(ids.flatMap((id) => parts[id]))),
  };
  const stream = new TextStream(codec);
  assert.deepEqual([0, 1, 2, 3, 4].map((id) => stream.add(id)), ['Hi', '', '😀', '!', '']);
  assert.equal(stream.finish(), '\uFFFD');
});

test('axes end at round numbers', () => {
  assert.deepEqual(axis(0, 87).steps, [0, 50, 100]);
  assert.deepEqual(axis(0, 230).steps, [0, 100, 200, 300]);
  assert.deepEqual(axis(-3e-7, 3e-7).steps, [-5e-7, 0, 5e-7]);
});

test('numbers for readers', () => {
  assert.equal(signedPercent(-1.23456e-3), '−0.123 %');
  assert.equal(signedPercent(2e-9), '+2.0e-7 %');
  assert.equal(small(1e-4 * 100), '0.01');
  assert.equal(megabytes(8.52e6), '8.5 MB');
  assert.equal(duration(75), '1 min 15 s');
});

test('the service worker keeps every file of the page', async () => {
  const root = new URL('../', import.meta.url);
  const text = await readFile(new URL('sw.js', root), 'utf8');
  const listed = [...(text.match(/const FILES = \[([^\]]*)\]/)?.[1] ?? '').matchAll(/'([^']+)'/g)].map((m) => m[1]);
  const sources = (await readdir(new URL('src', root), { recursive: true })).filter((n) => n.endsWith('.js')).map((n) => `src/${n}`);
  const vendor = ['ort.wasm.min.mjs', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm', 'tokenizers.min.mjs'];
  const expected = ['./', 'index.html', 'style.css', 'icon.svg', ...sources, ...vendor.map((n) => `vendor/${n}`)];
  assert.deepEqual(listed.toSorted(), expected.toSorted());
});
