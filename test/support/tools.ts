/** The tools that the global setup has found or installed before the first test. */

import { inject } from 'vitest';
import type { ToolName } from '../../stack/install/test-tools.ts';

/** @returns its path */
export function tool(name: ToolName): string {
  const found = inject('tools')[name];
  if (found === undefined) throw new Error(`stack/install/test-tools.ts gives ${name} to other projects`);
  if ('missing' in found) throw new Error(found.missing);
  return found.path;
}
