/** Golden bytes: numpy.save and Python's zipfile wrote them. */
import assert from 'node:assert/strict';
import test from 'node:test';

import { readIds, readNpy } from '../src/npy.js';
import { openSource, rootOf } from '../src/source.js';
import { readDirectory, readMember } from '../src/zip.js';

const bytes = (/** @type {string} */ text) => new Uint8Array(Buffer.from(text, 'base64'));
const PAD = 'ICAgICAgICAgICAgICAgICAgICAg';
const INT32 =
  `k05VTVBZAQB2AHsnZGVzY3InOiAnPGk0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDIpLCB9${PAD}ICAg` +
  'ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoBAAAA/v///wMAAAAEAAAA';
const FLOAT64 =
  `k05VTVBZAQB2AHsnZGVzY3InOiAnPGY4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsKSwgfSAg${PAD}ICAg` +
  'ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAAD4PwAAAAAAAALA';
const INT64 =
  `k05VTVBZAQB2AHsnZGVzY3InOiAnPGk4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDMsKSwgfSAg${PAD}ICAg` +
  'ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoBAAAAAAAAAAIAAAAAAAAAAwAAAAAAAAA=';
const ZIP =
  'UEsDBBQAAAAAAAAAIQCXjqH7CAAAAAgAAAAMAAAAa2l0L2tpdC5qc29ueyJhIjogMX1QSwMEFAAAAAgAAAAhAGVdtc0KAAAAyAAAABIA' +
  'AABraXQvbW9kZWwvdGV4dC50eHQrzy9KUSgf+gQAUEsBAhQDFAAAAAAAAAAhAJeOofsIAAAACAAAAAwAAAAAAAAAAAAAAIABAAAAAGtp' +
  'dC9raXQuanNvblBLAQIUAxQAAAAIAAAAIQBlXbXNCgAAAMgAAAASAAAAAAAAAAAAAACAATIAAABraXQvbW9kZWwvdGV4dC50eHRQSwUG' +
  'AAAAAAIAAgB6AAAAbAAAAAAA';

test('arrays of the types a kit holds', () => {
  assert.deepEqual(readNpy(bytes(INT32), 'a.npy'), { data: Int32Array.of(1, -2, 3, 4), shape: [2, 2] });
  assert.deepEqual(readNpy(bytes(FLOAT64), 'a.npy'), { data: Float64Array.of(1.5, -2.25), shape: [2] });
  assert.deepEqual(readIds(bytes(INT64), 'a.npy'), Int32Array.of(1, 2, 3));
});

test('an array at an odd offset of a larger buffer', () => {
  const shifted = new Uint8Array(bytes(FLOAT64).length + 3);
  shifted.set(bytes(FLOAT64), 3);
  assert.deepEqual(readNpy(shifted.subarray(3), 'a.npy').data, Float64Array.of(1.5, -2.25));
});

test('what is no array, is cut off, or has another type is named', () => {
  assert.throws(() => readNpy(Uint8Array.of(1, 2, 3), 'x.npy'), /x\.npy is not a NumPy array/);
  assert.throws(() => readNpy(bytes(INT64).slice(0, -8), 'x.npy'), /x\.npy has 2 values but its shape is 3/);
  const complex = Buffer.from(bytes(FLOAT64));
  complex.write('c', complex.indexOf('f8'));
  assert.throws(() => readNpy(complex, 'x.npy'), /x\.npy holds <c8/);
});

test('stored and deflated members of a zip', async () => {
  const blob = new Blob([bytes(ZIP)]);
  const members = await readDirectory(blob);
  assert.deepEqual([...members.keys()], ['kit/kit.json', 'kit/model/text.txt']);
  const read = async (/** @type {string} */ name) => (await readMember(blob, name, /** @type {any} */ (members.get(name)))).text();
  assert.equal(await read('kit/kit.json'), '{"a": 1}');
  assert.equal(await read('kit/model/text.txt'), 'word '.repeat(40));
});

test('a zip that is cut off, and a damaged one', async () => {
  await assert.rejects(readDirectory(new Blob([bytes(ZIP).slice(0, 200)])), /not a zip, or it is cut off/);
  const damaged = bytes(ZIP);
  damaged[0] = 0;
  const blob = new Blob([damaged]);
  const members = await readDirectory(blob);
  await assert.rejects(readMember(blob, 'kit/kit.json', /** @type {any} */ (members.get('kit/kit.json'))), /kit\/kit\.json in this zip is damaged/);
});

test('the root of a folder is where the marker nearest to the top lies; a kit comes before its model', () => {
  assert.equal(rootOf(['a/b/dareq.json', 'a/dareq.json']), 'a/');
  assert.equal(rootOf(['kit/model/dareq.json', 'kit/kit.json']), 'kit/');
  assert.equal(rootOf(['dareq.json']), '');
  assert.equal(rootOf(['a/mydareq.json']), null);
});

test('a folder and a zip answer alike', async () => {
  const folder = await openSource({ files: [['kit/other', new Blob(['x'])], ['kit/kit.json', new Blob(['{"a": 1}'])]] });
  const zip = await openSource({ files: [['kit.zip', new Blob([bytes(ZIP)])]] });
  for (const source of [folder, zip]) {
    assert.equal(await (await source.blob('kit.json'))?.text(), '{"a": 1}');
    assert.equal(await source.blob('missing'), null);
  }
});

test('a folder of something else is refused', async () => {
  const files = /** @type {[string, Blob][]} */ ([['photos/a.png', new Blob(['x'])]]);
  await assert.rejects(openSource({ files }), /no kit\.json or dareq\.json among the 1 files of photos/);
  await assert.rejects(openSource({ files: [] }), /no file in this folder/);
});
