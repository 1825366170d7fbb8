/** Small helpers over the document. */

/**
 * The element with an id.
 *
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function find(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`);
  return element;
}

/**
 * @param {string} id
 * @param {boolean} visible
 */
export function show(id, visible) {
  find(id, HTMLElement).hidden = !visible;
}

/**
 * Fill a description list.
 *
 * @param {string} id
 * @param {[string, string, string?][]} rows Name, value, and an id for the value where something looks for it.
 */
export function fillList(id, rows) {
  const list = find(id, HTMLElement);
  list.replaceChildren(
    ...rows.map(([name, value, key]) => {
      const row = document.createElement('div');
      const [term, detail] = [document.createElement('dt'), document.createElement('dd')];
      term.textContent = name;
      detail.textContent = value;
      if (key !== undefined) detail.id = key;
      row.append(term, detail);
      return row;
    }),
  );
  list.hidden = false;
}

/**
 * The number in a field.
 *
 * @param {string} id
 * @returns {number} NaN if it is empty or no number.
 */
export function numberIn(id) {
  return find(id, HTMLInputElement).valueAsNumber;
}
