/** The audit as a process, over the servers that the environment names. */

import { loadAuditConfig } from '../config.ts';
import { auditCommand } from './command.ts';

process.exitCode = await auditCommand(loadAuditConfig(), process.argv.slice(2));
