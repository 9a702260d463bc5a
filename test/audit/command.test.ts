/** The command `npm run audit`: what it prints, and its exit codes. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, inject, test, vi } from 'vitest';
import { auditCommand } from '../../src/audit/command.ts';
import { RULE_NAMES } from '../../src/audit/run-audit.ts';
import { loadAuditConfig, type AuditConfig } from '../../src/config.ts';
import { asProduct } from '../../stack/servers/accounts.ts';
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
  return auditCommand(config, ['--accepted', file]);
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
  await expect(auditWith(['no order'])).rejects.toThrow('the accepted order no order is of no known sale');
});
