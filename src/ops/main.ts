/** The operator's command line as a process, over the servers that the environment names. */

import { loadOpsConfig } from '../config.ts';
import { runOpsProcess } from './program.ts';

await runOpsProcess(() => loadOpsConfig());
