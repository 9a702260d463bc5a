/** `npm run ops`: the operator's command line, over the same servers as `npm run audit`. */

import { loadOpsConfig } from '../src/config.ts';
import { runOpsProcess } from '../src/ops/program.ts';
import { OpsError } from '../src/ops/terminal.ts';
import { findRunningEnv, NOT_RUNNING } from './running.ts';

await runOpsProcess(() => {
  const env = findRunningEnv();
  if (env === undefined) throw new OpsError(NOT_RUNNING);
  return loadOpsConfig(env);
});
