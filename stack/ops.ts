/** `npm run ops`: the operator's command line, over the same servers as `npm run audit`. */

import { userInfo } from 'node:os';
import { signToken } from '../src/api/http/auth.ts';
import { loadOpsAccess, loadOpsConfig } from '../src/config.ts';
import { runOpsProcess } from '../src/ops/program.ts';
import { OpsError } from '../src/ops/terminal.ts';
import { readAddresses } from './addresses.ts';
import { demoSecrets } from './app.ts';
import { findRunningEnv, NOT_RUNNING } from './running.ts';

await runOpsProcess({
  loadConfig() {
    const env = findRunningEnv();
    if (env === undefined) throw new OpsError(NOT_RUNNING);
    return loadOpsConfig(env);
  },
  /** Who runs `npm start` is its operator. */
  async loadAccess() {
    const running = process.env['HOLDFAST_URL'] ? undefined : readAddresses();
    if (running === undefined) return loadOpsAccess();
    const token = await signToken(demoSecrets.jwt, userInfo().username, '1h', { roles: ['admin'] });
    return { HOLDFAST_URL: running.apiUrl, HOLDFAST_TOKEN: token };
  },
});
