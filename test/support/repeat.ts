/** Work that goes on beside a test, such as calls to a service that is away. */

import { setTimeout as delay } from 'node:timers/promises';

const PAUSE_MS = 20;

/** Whether it fails or not. @returns stops it, and waits for the last one */
export function repeat(work: () => Promise<unknown>): () => Promise<void> {
  const end = new AbortController();
  const done = (async () => {
    while (!end.signal.aborted) {
      await work().catch(() => {});
      await delay(PAUSE_MS);
    }
  })();
  return () => {
    end.abort();
    return done;
  };
}
