/** The environment of commands that look at a running Holdfast: the shell's own, or that of `npm start`. */

import { readAddresses } from './addresses.ts';
import { appEnv } from './app.ts';

export const NOT_RUNNING =
  'Holdfast is not running here: run `npm start` in another terminal first, or name the servers in the environment.';

/** Undefined when neither names the servers. */
export function findRunningEnv(): NodeJS.ProcessEnv | undefined {
  if (process.env['MYSQL_URL']) return process.env;
  const running = readAddresses();
  return (
    running && {
      ...process.env,
      ...appEnv({ servers: { temporalUiUrl: undefined, ...running }, urls: running }),
    }
  );
}
