/** The operator's command line as a process, over the servers that the environment names. */

import { loadOpsAccess, loadOpsConfig } from '../config.ts';
import { runOpsProcess } from './program.ts';

await runOpsProcess({ loadConfig: () => loadOpsConfig(), loadAccess: () => loadOpsAccess() });
