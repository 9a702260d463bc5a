/** Clean-up of what the tests of a file, or of a group in it, share. */

import { afterAll } from 'vitest';

/**
 * Call it outside hooks and tests.
 * @returns takes what ends a thing; after the last test they run one by one, the last taken first
 */
export function closeAfterAll(): (close: () => Promise<unknown>) => void {
  const closers: (() => Promise<unknown>)[] = [];
  afterAll(async () => {
    for (const close of closers.splice(0).toReversed()) await close();
  });
  return (close) => void closers.push(close);
}
