/**
 * Two small drawings over the windows of a kit: perplexity here and on the host, and how far the two are apart.
 * Plain SVG; the numbers are in the title of every mark and in the figure's caption.
 */
import { signedPercent } from './format.js';

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 720;
const LEFT = 64;
const RIGHT = 12;
const UPPER = { top: 26, height: 150 };
const LOWER = { top: 220, height: 70 };
const HEIGHT = 326;

/**
 * @typedef {import('../validate.js').WindowScore} WindowScore
 */

/**
 * Draw the windows judged so far.
 *
 * @param {HTMLElement} figure
 * @param {WindowScore[]} windows
 * @param {number} count Windows there will be.
 */
export function drawWindows(figure, windows, count) {
  const svg = make('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img' });
  const x = (/** @type {number} */ i) => LEFT + ((i + 0.5) * (WIDTH - LEFT - RIGHT)) / count;
  svg.append(...perplexities(windows, x), ...differences(windows, x, count));
  const last = windows[windows.length - 1];
  svg.setAttribute(
    'aria-label',
    `Perplexity of ${windows.length} of ${count} windows; the last is ${Math.exp(last.nll).toFixed(2)} here and ` +
      `${Math.exp(last.reference).toFixed(2)} on the host.`,
  );
  figure.replaceChildren(svg);
  figure.hidden = false;
}

/**
 * @param {WindowScore[]} windows
 * @param {(i: number) => number} x
 * @returns {Element[]}
 */
function perplexities(windows, x) {
  const values = windows.flatMap((w) => [Math.exp(w.nll), Math.exp(w.reference)]);
  const scale = axis(0, Math.max(...values));
  const y = (/** @type {number} */ v) => UPPER.top + UPPER.height * (1 - v / scale.high);
  const line = windows.map((w) => `${x(w.index).toFixed(1)},${y(Math.exp(w.reference)).toFixed(1)}`).join(' ');
  const marks = windows.map((w) => {
    const dot = make('circle', { cx: x(w.index), cy: y(Math.exp(w.nll)), r: 4, class: 'here' });
    return titled(dot, `window ${w.index + 1}: ${Math.exp(w.nll).toFixed(3)} here, ${Math.exp(w.reference).toFixed(3)} on the host`);
  });
  return [
    text('perplexity of each window', LEFT, 12),
    ...legend(),
    ...gridLines(scale, y, (v) => v.toLocaleString('en')),
    make('polyline', { points: line, class: 'host' }),
    ...marks,
  ];
}

/** @returns {Element[]} */
function legend() {
  const at = WIDTH - RIGHT - 170;
  return [
    make('circle', { cx: at, cy: 8, r: 4, class: 'here' }),
    text('this browser', at + 10, 12),
    make('line', { x1: at + 92, x2: at + 112, y1: 8, y2: 8, class: 'host' }),
    text('host, fp32', at + 117, 12),
  ];
}

/**
 * @param {WindowScore[]} windows
 * @param {(i: number) => number} x
 * @param {number} count
 * @returns {Element[]}
 */
function differences(windows, x, count) {
  const values = windows.map((w) => Math.expm1(w.nll - w.reference));
  const reach = Math.max(...values.map(Math.abs), 1e-9);
  const scale = axis(-reach, reach);
  const middle = LOWER.top + LOWER.height / 2;
  const y = (/** @type {number} */ v) => middle - (v / scale.high) * (LOWER.height / 2);
  const width = Math.min(24, Math.max(1, (0.6 * (WIDTH - LEFT - RIGHT)) / count));
  const bars = windows.map((w, i) => {
    const [top, bottom] = [Math.min(y(values[i]), middle), Math.max(y(values[i]), middle)];
    const bar = make('rect', { x: x(w.index) - width / 2, y: top, width, height: Math.max(bottom - top, 0.5), class: 'bar' });
    return titled(bar, `window ${w.index + 1}: ${signedPercent(values[i])}`);
  });
  const number = (/** @type {number} */ v) => (v === 0 ? '0' : `${v > 0 ? '+' : '−'}${Math.abs(100 * v).toExponential(0)} %`);
  return [
    text('difference of each window from the host', LEFT, LOWER.top - 10),
    ...gridLines(scale, y, number),
    ...bars,
    text('window 1', x(0) - 4, HEIGHT - 12),
    text(String(count), x(count - 1), HEIGHT - 12, 'middle'),
  ];
}

/**
 * A scale with round ends and three to five steps.
 *
 * @param {number} low 0, or the negative of high.
 * @param {number} high
 * @returns {{ low: number, high: number, steps: number[] }}
 */
export function axis(low, high) {
  const power = 10 ** Math.floor(Math.log10(high));
  const step = [0.2, 0.5, 1, 2, 5].map((s) => s * power).find((s) => high / s <= 4) ?? 10 * power;
  if (low < 0) {
    const end = [1, 2, 5, 10].map((s) => s * power).find((s) => s >= high) ?? 10 * power;
    return { low: -end, high: end, steps: [-end, 0, end] };
  }
  const count = Math.ceil(high / step);
  return { low, high: count * step, steps: Array.from({ length: count + 1 }, (_, i) => i * step) };
}

/**
 * @param {{ steps: number[] }} scale
 * @param {(v: number) => number} y
 * @param {(v: number) => string} label
 * @returns {Element[]}
 */
function gridLines(scale, y, label) {
  return scale.steps.flatMap((v) => [
    make('line', { x1: LEFT, x2: WIDTH - RIGHT, y1: y(v), y2: y(v), class: 'axis' }),
    text(label(v), LEFT - 8, y(v) + 4, 'end'),
  ]);
}

/**
 * @param {string} content
 * @param {number} x
 * @param {number} y
 * @param {string} anchor
 * @returns {Element}
 */
function text(content, x, y, anchor = 'start') {
  const element = make('text', { x, y, 'text-anchor': anchor });
  element.textContent = content;
  return element;
}

/**
 * @param {Element} element
 * @param {string} title
 * @returns {Element}
 */
function titled(element, title) {
  const node = make('title', {});
  node.textContent = title;
  element.append(node);
  return element;
}

/**
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 * @returns {SVGElement}
 */
function make(name, attributes) {
  const element = /** @type {SVGElement} */ (document.createElementNS(SVG, name));
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}
