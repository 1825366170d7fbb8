/**
 * The service worker: it keeps the page for use without a network, and adds the headers that threads need where the
 * server does not send them. Those apply from the next load on, so the page then loads once more by itself.
 */

const RELOADED = 'reloaded-for-threads';

/** @returns {Promise<void>} */
export async function registerOffline() {
  if (!('serviceWorker' in navigator)) return;
  try {
    await navigator.serviceWorker.register(new URL('../sw.js', import.meta.url));
    await navigator.serviceWorker.ready;
  } catch {
    return; // private windows and some settings refuse; the page works without
  }
  if (globalThis.crossOriginIsolated || sessionStorage.getItem(RELOADED) !== null) return;
  sessionStorage.setItem(RELOADED, 'yes');
  location.reload();
}
