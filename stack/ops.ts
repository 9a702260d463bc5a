/** `npm run ops`: the operator's command line, over the same servers as `npm run audit`. */

import { userInfo } from 'node:os';
import { loadOpsConfig } from '../src/config.ts';
import { runOps } from '../src/ops/program.ts';
import { OpsError, openTerminal } from '../src/ops/terminal.ts';
import { findRunningEnv, NOT_RUNNING } from './running.ts';

process.exitCode = await runOps(process.argv.slice(2), {
  terminal: openTerminal(),
  user: userInfo().username,
  loadConfig() {
    const env = findRunningEnv();
    if (env === undefined) throw new OpsError(NOT_RUNNING);
    return loadOpsConfig(env);
  },
});
