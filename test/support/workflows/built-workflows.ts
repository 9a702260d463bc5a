/**
 * The workflows as they are, as the build bundled them: bundling takes seconds, and here each file would do
 * it again.
 */

import { join } from 'node:path';
import { repoDir } from '../../../stack/install/repo-dir.ts';

/** `npm test` builds before it runs, where a source is newer than the build. */
export const builtWorkflows = { codePath: join(repoDir, 'dist', 'workflow-bundle.js') };
