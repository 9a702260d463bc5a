/**
 * Makes the calls of packages/client anew from pages/openapi.json. The generator needs Node 22, and the
 * project runs on Node 20. So `npm exec` fetches the generator, which is not in the lock file, and on Node 20
 * also a newer Node.
 */

import { join } from 'node:path';
import { repoDir } from '../install/repo-dir.ts';
import { runCommand } from '../processes/command.ts';

const isOldNode = Number(process.versions.node.split('.')[0]) < 22;
const TOOLS = [...(isOldNode ? ['--package=node@22'] : []), '--package=orval@8.38.0'];
const CONFIG = join(repoDir, 'packages', 'client', 'orval.config.mjs');
/** npm downloads the generator the first time. */
const TIMEOUT_MS = 10 * 60_000;

/** Writes packages/client/src/generated. */
export async function generateClient(): Promise<void> {
  const args = ['exec', '--yes', '--loglevel=error', ...TOOLS, '--', 'orval', '--config', CONFIG];
  const result = await runCommand('npm', args, { timeoutMs: TIMEOUT_MS });
  if (!result.ok) throw new Error(`the client could not be generated: ${result.reason}\n${result.output}`);
}
