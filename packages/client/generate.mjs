/**
 * `npm run generate`: makes src/generated anew from the OpenAPI document of the service as it is built. The
 * generator needs Node 22, and the project runs on Node 20: so npm brings both, outside the lock.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openApiText } from '../../dist/src/api/open-api.js';

const TOOLS = ['--package=node@22', '--package=orval@8.38.0'];

const config = fileURLToPath(new URL('orval.config.mjs', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'holdfast-openapi-'));
try {
  const document = join(folder, 'openapi.json');
  writeFileSync(document, openApiText());
  const args = ['exec', '--yes', '--loglevel=error', ...TOOLS, '--', 'orval', '--config', config];
  execFileSync('npm', args, { stdio: 'inherit', env: { ...process.env, HOLDFAST_OPENAPI: document } });
} finally {
  rmSync(folder, { recursive: true });
}
