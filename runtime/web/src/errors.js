/** Errors that are shown to the reader of the page as they are: one sentence that says what, where, and what to do. */

/** What the page could not do, in words for its reader. */
export class PageError extends Error {
  /** @param {string} message One sentence: what, where, what to do. */
  constructor(message) {
    super(message);
    this.name = 'PageError';
  }
}

/** The reader pressed stop. */
export class Stopped extends PageError {
  constructor() {
    super('Stopped.');
    this.name = 'Stopped';
  }
}

/**
 * A sentence for any error; those that WebAssembly raises when memory runs out are put into words.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function describe(error) {
  if (error instanceof PageError) return error.message;
  if (isOutOfMemory(error)) {
    return 'The browser ran out of memory; close other tabs and reload the page, or open a smaller model.';
  }
  return `${firstLine(error)}; reload the page and open the model again.`;
}

/**
 * @param {unknown} error
 * @returns {boolean}
 */
export function isOutOfMemory(error) {
  return /out of memory|bad_alloc|could not allocate|allocation failed|memory access out of bounds/i.test(firstLine(error));
}

/**
 * The first line of a library's message, shortened.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function firstLine(error) {
  const text = error instanceof Error ? error.message : String(error);
  return text.split('\n')[0].slice(0, 300);
}
