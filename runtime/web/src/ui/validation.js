/** The third section: a kit judged on this device. */
import { fillList, find, numberIn, show } from './dom.js';
import { duration, megabytes, perSecond, signedPercent, small } from './format.js';
import { drawWindows } from './plot.js';

/**
 * @typedef {import('../client.js').Client} Client
 * @typedef {import('../model.js').Facts} Facts
 * @typedef {import('../validate.js').WindowScore} WindowScore
 */

/**
 * @param {Client} client
 * @param {<T>(work: () => Promise<T>, stop: string) => Promise<void>} busy Runs one request, with its stop button.
 */
export function setUpValidation(client, busy) {
  find('validate', HTMLButtonElement).addEventListener('click', () => busy(() => run(client), 'stop-validation'));
}

/** @param {Facts} facts */
export function showValidation(facts) {
  show('validation', true);
  show('no-kit', facts.kit === null);
  show('kit-form', facts.kit !== null);
  clear();
  if (facts.kit === null) return;
  const { protocol, tokens, windows, host } = facts.kit;
  find('kit-summary', HTMLElement).textContent =
    `${protocol}: ${tokens.toLocaleString('en')} predicted tokens in ${windows} windows. ` +
    `On the host, in the same fp32 compute: perplexity ${host.toFixed(3)}.`;
}

function clear() {
  for (const id of ['validating', 'verdict', 'plot', 'figures', 'download-row']) show(id, false);
}

/** @param {Client} client */
async function run(client) {
  clear();
  show('validating', true);
  const bar = find('validation-bar', HTMLProgressElement);
  const stage = find('validation-stage', HTMLElement);
  bar.value = 0;
  stage.textContent = 'predicting …';
  const begin = performance.now();
  /** @type {WindowScore[]} */
  const windows = [];
  const onProgress = (/** @type {{ done: number, total: number }} */ { done, total }) => {
    const left = ((performance.now() - begin) / 1000) * (total / done - 1);
    bar.value = done / total;
    stage.textContent = `${done.toLocaleString('en')} of ${total.toLocaleString('en')} tokens, ${duration(left)} to go`;
  };
  const onWindow = (/** @type {WindowScore} */ window) => {
    windows.push(window);
    drawWindows(find('plot', HTMLElement), windows, Math.round((windows.length * window.total) / window.done));
  };
  const asked = numberIn('judge-tokens');
  try {
    const result = await client.validate(Number.isNaN(asked) ? Infinity : asked, { progress: onProgress, window: onWindow });
    showResult(result);
  } finally {
    show('validating', false);
  }
}

/** @param {any} result The content of result.json. */
function showResult(result) {
  /** @type {import('../result.js').Judgement} */
  const found = result.computes.fp32;
  const verdict = find('verdict', HTMLElement);
  const word = Object.assign(document.createElement('strong'), { textContent: result.passed ? 'PASSED' : 'FAILED' });
  const why = result.passed ? 'What runs here is what was bundled.' : `${result.reasons.join('; ')}.`;
  verdict.replaceChildren(word, why);
  verdict.className = result.passed ? 'passed' : 'failed';
  verdict.hidden = false;
  fillList('figures', [
    ['Perplexity', `${found.ppl.toFixed(4)} ± ${found.stderr.toFixed(4)}`, 'figure-ppl'],
    ['On the host', found.reference_ppl.toFixed(4)],
    ['Difference', `${signedPercent(found.delta_ppl)} (± ${small(100 * found.delta_stderr)} %)`],
    ['Allowed difference', `± ${small(100 * found.allowed)} %`],
    ['KL to the host, mean, at least', `${small(found.kl_mean)} nats`],
    ['KL, 99 % of tokens below', `${small(found.kl_p99)} nats`],
    ['Same likeliest token', `${(100 * found.top1_agreement).toFixed(2)} %`],
    ['Tokens predicted', found.tokens.toLocaleString('en')],
    ['Reading', perSecond(found.prefill_tokens_per_s)],
    ['Writing', perSecond(found.decode_tokens_per_s)],
    ['Memory at most (WebAssembly)', megabytes(result.peak_memory_mb * 1e6)],
    ['Model opened in', duration(found.load_s)],
  ]);
  const link = find('download', HTMLAnchorElement);
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([JSON.stringify(result)], { type: 'application/json' }));
  show('download-row', true);
}
