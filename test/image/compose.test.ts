/** A second reader of the compose file: podman-compose, which interpolates and merges by code of its own. */

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { COMPOSE_FILE, loadCompose, parseComposeFile } from '../compose/compose-file.ts';
import { tool } from '../support/tools.ts';

/** As podman-compose shows the file with these variables. */
async function config(env: Record<string, string>): Promise<string> {
  const args = ['--file', COMPOSE_FILE, '--profile', 'traces', 'config'];
  const PATH = process.env['PATH'];
  const options = { cwd: repoDir, env: { ...env, PATH }, maxBuffer: 16 * 1024 * 1024 };
  return (await promisify(execFile)(tool('podman-compose'), args, options)).stdout;
}

test.each([
  ['without a setting', {}],
  [
    'with the settings of production and two APIs',
    {
      NODE_ENV: 'production',
      API_PORT: '3000-3001',
      REDIS_KEY_PREFIX: 'shop2',
      DEMO_SALE_ID: '',
      PAYMENT_PROVIDER_URL: '',
      JWT_SECRET: '',
      TEMPORAL_MYSQL_PASSWORD: 'a-password',
    },
  ],
])('podman-compose reads the compose file %s as our tests do', async (_, env) => {
  const read = parseComposeFile(parse(await config(env)));
  const ours = loadCompose(env);

  // It shows the folder of a build as a path from the root.
  const context = repoDir;
  for (const service of Object.values(ours.services))
    if (service.build) service.build = { ...service.build, context };
  expect(read).toEqual(ours);
});
