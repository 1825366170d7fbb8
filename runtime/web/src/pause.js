/** Letting the worker read its messages between two steps: without it, "stop" would arrive after the last one. */

/** @returns {Promise<void>} Resolves in a new task, without the delay that timers have. */
export function nextTask() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
