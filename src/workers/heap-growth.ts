/** How much more than what is in use the heap of a worker may hold. */

import { setFlagsFromString } from 'node:v8';

/**
 * In percent of what is in use. Where memory seems plenty, V8 lets a heap grow to four times that: 65 MB
 * became 260 MB while an outbox was drained.
 */
const GROWTH_PERCENT = 50;

/** For the threads of the process too, which run the workflows. */
export function boundHeapGrowth(): void {
  // NODE_OPTIONS refuses it, and who starts the process may forget it. A V8 that does not know it goes on.
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
}
