/** `npm run audit`: audits the servers that the environment names, else those of the running `npm start`. */

import { auditCommand } from '../src/audit/command.ts';
import { loadAuditConfig } from '../src/config.ts';
import { runTool } from '../src/tool.ts';
import { findRunningEnv, NOT_RUNNING } from './running.ts';

const env = findRunningEnv();
if (env === undefined) {
  console.error(NOT_RUNNING);
  process.exit(1);
}
await runTool(() => auditCommand(() => loadAuditConfig(env), process.argv.slice(2)));
