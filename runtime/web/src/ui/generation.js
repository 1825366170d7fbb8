/** The second section: a prompt in, a stream of text out. */
import { find, numberIn, show } from './dom.js';
import { perSecond } from './format.js';

/**
 * @typedef {import('../client.js').Client} Client
 * @typedef {import('../model.js').Facts} Facts
 */

/**
 * @param {Client} client
 * @param {<T>(work: () => Promise<T>, stop: string) => Promise<void>} busy Runs one request, with its stop button.
 */
export function setUpGeneration(client, busy) {
  find('generate-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    busy(() => run(client, client.facts), 'stop-generation');
  });
}

/** @param {Facts} facts */
export function showGeneration(facts) {
  show('generation', true);
  find('output', HTMLElement).replaceChildren();
  find('speed', HTMLOutputElement).value = '';
  const label = facts.hasTokenizer ? 'Prompt' : 'Prompt (token ids: this folder has no tokenizer)';
  const changed = find('prompt-label', HTMLElement).textContent !== label;
  find('prompt-label', HTMLElement).textContent = label;
  if (changed) find('prompt', HTMLTextAreaElement).value = facts.hasTokenizer ? '' : '2 100 200 300';
}

/**
 * @param {Client} client
 * @param {Facts | null} facts
 */
async function run(client, facts) {
  const prompt = find('prompt', HTMLTextAreaElement).value;
  const output = find('output', HTMLElement);
  const speed = find('speed', HTMLOutputElement);
  const given = Object.assign(document.createElement('span'), { className: 'prompt', textContent: facts?.hasTokenizer === false ? `${prompt} ` : prompt });
  const made = document.createElement('span');
  made.id = 'made';
  output.replaceChildren(given, made);
  output.dataset.ids = '';
  speed.value = 'reading the prompt …';
  const request = {
    prompt,
    maxNewTokens: numberIn('new-tokens'),
    sampling: { temperature: numberIn('temperature'), topK: numberIn('top-k'), seed: numberIn('seed') },
  };
  let [count, first] = [0, 0];
  const onText = (/** @type {{ text: string, ids: number[] }} */ { text, ids }) => {
    made.append(text);
    output.dataset.ids += ids.map((id) => `${id} `).join('');
    output.scrollTop = output.scrollHeight;
    count += ids.length;
    if (first === 0) first = performance.now();
    else if (count > 1) speed.value = `${count} tokens, ${perSecond((1000 * (count - 1)) / (performance.now() - first))}`;
  };
  const result = await client.generate(request, { text: onText });
  const fresh = result.ids.length;
  const rate = fresh > 1 ? `${perSecond((fresh - 1) / result.seconds)}, ` : '';
  const why = result.stopped === 'stop' ? ', ended by the model' : '';
  speed.value = `${fresh} tokens, ${rate}prompt of ${result.promptTokens} in ${result.promptSeconds.toFixed(2)} s${why}`;
}
