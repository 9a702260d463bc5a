/** `npm run audit`: audits the servers that the environment names, else those of the running `npm start`. */

import { auditCommand } from '../src/audit/command.ts';
import { loadAuditConfig } from '../src/config.ts';
import { readAddresses } from './addresses.ts';
import { appEnv } from './app.ts';

const env = findEnv();
if (env === undefined) {
  console.error(
    'Holdfast is not running here: run `npm start` in another terminal first, or name the servers in the environment.',
  );
  process.exit(1);
}
process.exitCode = await auditCommand(loadAuditConfig(env), process.argv.slice(2));

function findEnv(): NodeJS.ProcessEnv | undefined {
  if (process.env['MYSQL_URL']) return process.env;
  const running = readAddresses();
  return (
    running && {
      ...process.env,
      ...appEnv({ servers: { temporalUiUrl: undefined, ...running }, urls: running }),
    }
  );
}
