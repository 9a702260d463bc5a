/** docs/first-sale.md, walked as it is printed. */

import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { signToken } from '../../src/api/http/auth.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { openCheckout } from '../support/checkout.ts';
import { opsEnv } from '../support/ops.ts';
import { JWT_SECRET } from '../support/shopper.ts';

const run = promisify(execFile);

test('the commands of docs/first-sale.md run as printed, from a sale to its settlement', async () => {
  const checkout = await openCheckout({ worker: 'whole' });
  const admin = await signToken(JWT_SECRET, 'first-sale', '1h', { roles: ['admin'] });
  const page = await readFile(join(repoDir, 'docs/first-sale.md'), 'utf8');
  const blocks = [...page.matchAll(/^```sh\n(.*?)^```/gms)].map(([, block = '']) => block);
  const commands = blocks
    .join('')
    .replace('http://127.0.0.1:3000', checkout.url)
    .replace('ADMIN=…', `ADMIN=${admin}`)
    .replace('holdfast-demo-secret-not-for-production', JWT_SECRET)
    .replaceAll('~/holdfast', repoDir);

  const folder = await mkdtemp(join(tmpdir(), 'holdfast-first-sale-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const { stdout } = await run('bash', ['-euc', commands], {
    cwd: folder,
    env: {
      ...process.env,
      ...opsEnv(checkout.stores, {
        TEMPORAL_NAMESPACE: checkout.client.options.namespace,
        PAYMENT_PROVIDER_URL: checkout.providerUrl,
        HOLDFAST_URL: checkout.url,
        HOLDFAST_TOKEN: admin,
      }),
    },
  });
  expect(stdout).toContain('order.paid');
  expect(stdout).toContain('sale.settled');
  expect(stdout).toContain('The stores agree.');
  expect(stdout).toMatch(/^total,,,kept,,4900,EUR/m);
  expect(stdout).toMatch(/^clean/m);
});
