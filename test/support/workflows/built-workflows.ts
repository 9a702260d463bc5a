/**
 * The workflows as they are, as the build bundled them: bundling takes seconds, and here each file would do
 * it again.
 */

import assert from 'node:assert/strict';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { repoDir } from '../../../stack/install/repo-dir.ts';

const bundlePath = join(repoDir, 'dist', 'workflow-bundle.js');
/** What the bundle is made of: the workflows, and the rules of an order. */
const SOURCES = ['src/workflows', 'src/orders'];

// `npm test` builds before it runs. A run that was started in another way, say by an IDE, does not: its tests
// would pass on code that is no longer there.
const stale = changedSinceBuild();
assert(
  stale === undefined,
  `dist/workflow-bundle.js is missing or older than ${stale}: run npm test, or node stack/bootstrap.mjs build`,
);

export const builtWorkflows = { codePath: bundlePath };

/** @returns the first source that is newer than the bundle */
function changedSinceBuild(): string | undefined {
  const builtMs = existsSync(bundlePath) ? statSync(bundlePath).mtimeMs : 0;
  return SOURCES.flatMap((folder) =>
    readdirSync(join(repoDir, folder), { recursive: true, encoding: 'utf8' }).map(
      (name) => `${folder}/${name}`,
    ),
  ).find((file) => {
    const stats = statSync(join(repoDir, file));
    return stats.isFile() && stats.mtimeMs > builtMs;
  });
}
