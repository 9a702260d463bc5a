/**
 * Bundles the workflows ahead of time, so that a worker starts in a moment and all workers run the same code.
 * The bundler takes the TypeScript sources themselves: stack traces in the Web UI then name their lines.
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import { repoDir } from './install/repo-dir.ts';

const { code } = await bundleWorkflowCode({
  workflowsPath: join(repoDir, 'src', 'workflows', 'index.ts'),
  payloadConverterPath: join(repoDir, 'src', 'workflows', 'payload-converter.ts'),
  logger: new DefaultLogger('WARN'),
});
mkdirSync(join(repoDir, 'dist'), { recursive: true });
writeFileSync(join(repoDir, 'dist', 'workflow-bundle.js'), code);
