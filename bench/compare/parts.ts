/** All parts of the comparison, in the order in which they run and stand in docs/benchmarks.md. */

import type { Part } from './part.ts';

export const PARTS: readonly Part[] = [];
