/** The audit as a process, over the servers that the environment names. */

import { loadAuditConfig } from '../config.ts';
import { runTool } from '../tool.ts';
import { auditCommand } from './command.ts';

await runTool(() => auditCommand(() => loadAuditConfig(), process.argv.slice(2)));
