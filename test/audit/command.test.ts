/** The command `npm run audit`: what it prints, and its exit codes. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, inject, onTestFinished, test, vi } from 'vitest';
import { auditCommand } from '../../src/audit/command.ts';
import { RULE_NAMES } from '../../src/audit/run-audit.ts';
import { loadAuditConfig, type AuditConfig } from '../../src/config.ts';
import { asProduct } from '../../stack/servers/accounts.ts';
import { openTcpProxy, type TcpProxy } from '../../stack/servers/tcp-proxy.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { PROVIDER_API_KEY, WEBHOOK_SECRET } from '../support/http-app.ts';

let checkout: Checkout;
let config: AuditConfig;
let dir: string;
let printed: string;

beforeAll(async () => {
  checkout = await openCheckout();
  const { stores, client, providerUrl } = checkout;
  config = loadAuditConfig({
    REDIS_URL: asProduct(stores.config.REDIS_URL.join(',')),
    MYSQL_URL: asProduct(stores.config.MYSQL_URL),
    TEMPORAL_ADDRESS: inject('temporalAddress'),
    TEMPORAL_NAMESPACE: client.options.namespace,
    PAYMENT_PROVIDER: 'sandbox',
    PAYMENT_PROVIDER_URL: providerUrl,
    PAYMENT_PROVIDER_API_KEY: PROVIDER_API_KEY,
    WEBHOOK_SECRETS: WEBHOOK_SECRET,
  });
  dir = await mkdtemp(join(tmpdir(), 'holdfast-audit-'));
  vi.spyOn(console, 'table').mockImplementation(() => {});
  vi.spyOn(console, 'error').mockImplementation((line: string) => {
    printed += `${line}\n`;
  });
  vi.spyOn(console, 'log').mockImplementation((line: string) => {
    printed += `${line}\n`;
  });
});
beforeEach(() => {
  printed = '';
});
afterAll(async () => {
  vi.restoreAllMocks();
  await rm(dir, { recursive: true, force: true });
  await checkout.close();
});

async function auditWith(accepted: string[]): Promise<number> {
  const file = join(dir, 'accepted.txt');
  await writeFile(file, `${accepted.join('\n')}\n`);
  return auditCommand(() => config, ['--accepted', file]);
}

test('what adds up is clean, and the exit code says so', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();

  expect(await auditWith([await shopper.buy(saleId)])).toBe(0);
  const rules = RULE_NAMES.map((rule) => `  ${rule}\n`).join('');
  expect(printed).toBe(`clean: ${RULE_NAMES.length} rules\n${rules}`);
});

test('an order that was accepted and that no store knows is named, and the exit code is 1', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const orderNo = await shopper.buy(saleId);
  const promised = `${orderNo.slice(0, -1)}${orderNo.endsWith('0') ? '1' : '0'}`;

  expect(await auditWith([orderNo, promised])).toBe(1);
  expect(printed).toContain(`${saleId}: accepted orders exist: ${promised}: `);
  expect(printed).toContain('1 discrepancies');
});

test('a list with something else than orders of our sales is refused', async () => {
  expect(await auditWith(['no order'])).toBe(2);
  expect(printed).toBe('The audit was not carried out. The accepted order no order is of no known sale.\n');
});

test('an environment, an option or a file that is wrong is named, and the exit code is 2', async () => {
  expect(await auditCommand(() => loadAuditConfig({}), [])).toBe(2);
  expect(await auditCommand(() => config, ['--acepted'])).toBe(2);
  expect(await auditCommand(() => config, ['--accepted', join(dir, 'none.txt')])).toBe(2);
  expect(printed).toMatch(/not carried out\. The environment is not as it must be:\n(?: {2}.+\n)+/);
  expect(printed).toMatch(/Unknown option '--acepted'/);
  expect(printed).toMatch(/no such file or directory/);
  expect(printed).not.toMatch(/\n\s+at /);
});

/** The configuration with Redis behind a wire. */
async function openWire(): Promise<{ config: AuditConfig; wire: TcpProxy }> {
  const url = new URL(config.REDIS_URL[0] ?? '');
  const wire = await openTcpProxy(url.host);
  onTestFinished(() => wire.close());
  url.host = wire.address;
  return { config: { ...config, REDIS_URL: [url.href] }, wire };
}

test('a Redis that answers later than a purchase waits is audited all the same', async () => {
  const slow = await openWire();
  // A purchase gives up after two seconds.
  slow.wire.slow(2_200);
  const code = await auditCommand(() => slow.config, []);
  expect([code, printed]).toEqual([0, expect.stringMatching(/^clean: /)]);
});

test.each<[string, (wire: TcpProxy) => void]>([
  ['refuses connections', (wire) => wire.cut()],
  ['takes connections and says nothing', (wire) => wire.silence()],
])('a Redis that %s ends the audit with a sentence and exit code 2', async (_, spoil) => {
  const away = await openWire();
  spoil(away.wire);
  expect(await auditCommand(() => away.config, [])).toBe(2);
  expect(printed).toMatch(/^The audit was not carried out\. Redis is not reachable at [\d.:]+: .+\.\n$/m);
  expect(printed).not.toMatch(/\n\s+at /);
});
