/** Renders the measured blocks of docs/capacity.md. */

import type { Results } from '../compare/results.ts';

export function writeCapacityPage(_results: Results): string[] {
  return [];
}
