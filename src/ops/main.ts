/** The operator's command line as a process, over the servers that the environment names. */

import { userInfo } from 'node:os';
import { loadOpsConfig } from '../config.ts';
import { runOps } from './program.ts';
import { openTerminal } from './terminal.ts';

process.exitCode = await runOps(process.argv.slice(2), {
  terminal: openTerminal(),
  user: userInfo().username,
  loadConfig: () => loadOpsConfig(),
});
// All is printed: what is still being connected to, and does not answer, must not keep the process.
setTimeout(() => process.exit(), 100).unref();
