/** Finds the folder of the repository, from the sources and from the compiled files alike. */

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder that holds package.json; the same from `stack/` (tests) and from `dist/stack/` (npm start). */
export const repoDir = findRepo(dirname(fileURLToPath(import.meta.url)));

function findRepo(from: string): string {
  if (existsSync(join(from, 'package.json'))) return from;
  const parent = dirname(from);
  if (parent === from) throw new Error('stack/ must lie inside the repository, below its package.json');
  return findRepo(parent);
}
