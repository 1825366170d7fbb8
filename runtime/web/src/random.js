/** Seeded random numbers: sfc32 by Chris Doty-Humphrey (PractRand), the same on every machine. */

/**
 * @param {number} seed A whole number; its lower 32 bits count.
 * @returns {() => number} Numbers in [0, 1) with 32 random bits.
 */
export function randomStream(seed) {
  let [a, b, c, counter] = [0, 0, seed >>> 0, 1];
  const next = () => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 15; i += 1) next(); // its author mixes the seed by 15 rounds
  return next;
}
