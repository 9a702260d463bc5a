/** A line that shows that something long is going on, on a terminal alone. */

import type { Terminal } from './terminal.ts';

const TICK_MS = 1_000;

/** Shows `what` with the seconds that it has taken so far; the line is gone afterwards. */
export async function withProgress<T>(terminal: Terminal, what: string, work: () => Promise<T>): Promise<T> {
  const beganMs = Date.now();
  const show = () => terminal.progress(`${what} … ${Math.round((Date.now() - beganMs) / 1_000)} s`);
  show();
  const ticking = setInterval(show, TICK_MS);
  try {
    return await work();
  } finally {
    clearInterval(ticking);
    terminal.progress('');
  }
}
