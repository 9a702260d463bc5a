/** The command line: the reconciliation, the rebuild of a sale and the audit, run by hand. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { RECONCILE_STEPS } from '../../src/reconcile/steps.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { openOps, type Ops } from '../support/ops.ts';
import { select } from '../support/rows.ts';
import { waitFor } from '../support/wait.ts';

const BECAUSE = ['--reason', 'ticket 4711'];

let checkout: Checkout;
let ops: Ops;
beforeAll(async () => {
  checkout = await openCheckout({ worker: 'whole', reconcileEveryMs: 3_600_000 });
  ops = openOps(checkout.stores, {
    HOLDFAST_URL: checkout.url,
    TEMPORAL_NAMESPACE: checkout.client.options.namespace,
    PAYMENT_PROVIDER_URL: checkout.providerUrl,
  });
});

async function buy() {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  return { saleId, shopper, orderNo };
}

const logged = (action: string) =>
  select(checkout.stores.pool, 'SELECT actor, reason, subject FROM audit_log WHERE action = ?', [action]);

test('reconcile has a worker run each step once, and prints what it did', async () => {
  await buy();
  const { out } = await waitFor('the schedule of the worker', async () => {
    const printed = await ops('reconcile', ...BECAUSE);
    return printed.exitCode === 0 && printed;
  });
  const [head = '', ...lines] = out.trimEnd().split('\n');
  expect(head).toMatch(/^step +looked +repaired +parked/);
  const steps = lines.map((line) => line.split(' ')[0] ?? '');
  expect(new Set(steps)).toEqual(new Set(RECONCILE_STEPS.keys()));
  expect(await logged('reconcile_requested')).toEqual([
    { actor: 'olga', reason: 'ticket 4711', subject: 'reconciliation' },
  ]);
});

test('rebuild has a worker make a sale again under a new epoch, and prints what it did', async () => {
  const { saleId, shopper, orderNo } = await buy();
  const { exitCode, out } = await ops('rebuild', saleId, ...BECAUSE);
  expect([exitCode, out.replaceAll(/\s+/g, ' ')]).toEqual([
    0,
    expect.stringMatching(new RegExp(`^Sale ${saleId} is in epoch 2 after \\d+ ms, with 1 open orders and`)),
  ]);
  expect(await logged('rebuild_requested')).toEqual([
    { actor: 'olga', reason: 'ticket 4711', subject: `sale ${saleId}` },
  ]);
  await shopper.cancel(orderNo);
  await shopper.awaitStatus(orderNo, 'cancelled');
});

test('a person is erased once none of their orders is open, and no command names them afterwards', async () => {
  const { shopper, orderNo } = await buy();
  const { userId } = shopper;
  const early = await ops('erase', userId, ...BECAUSE);
  expect([early.exitCode, early.err]).toEqual([1, expect.stringContaining(orderNo)]);
  await shopper.cancel(orderNo);
  await shopper.awaitStatus(orderNo, 'cancelled');

  const erased = await waitFor('the person to be erased', async () => {
    const printed = await ops('erase', userId, ...BECAUSE);
    return printed.exitCode === 0 && printed.out;
  });
  expect(erased.replaceAll(/\s+/g, ' ')).toMatch(/^Erased. What stays in the books \(orders: 1\) is under /);
  expect((await ops('order', 'show', orderNo)).out).not.toContain(userId);
  expect((await ops('erase', 'never-was', ...BECAUSE)).err).toBe('No store has anything of that person.\n');
  expect((await ops('erase', ' a person', ...BECAUSE)).exitCode).toBe(2);
});

test('a sale that there is not cannot be made again', async () => {
  expect(await ops('rebuild', 'never-was', ...BECAUSE)).toMatchObject({
    exitCode: 1,
    err: 'There is no such sale.\n',
  });
});

test('audit prints a line for each sale, and reads which orders were accepted', async () => {
  const { saleId, orderNo } = await buy();
  const { exitCode, out } = await ops('audit');
  expect([exitCode, out]).toEqual([
    0,
    expect.stringMatching(new RegExp(`\n${saleId} +1 +0 +0 +0 +0\n[^]*\nclean: \\d+ rules\n$`)),
  ]);

  const dir = await mkdtemp(join(tmpdir(), 'holdfast-ops-'));
  onTestFinished(() => rm(dir, { recursive: true }));
  const accepted = join(dir, 'accepted');
  await writeFile(accepted, `${orderNo}\n`);
  expect((await ops('audit', '--accepted', accepted)).exitCode).toBe(0);
  await writeFile(accepted, 'no order\n');
  const strange = await ops('audit', '--accepted', accepted);
  expect([strange.exitCode, strange.err]).toEqual([1, expect.stringContaining('is of no known sale')]);
  const missing = await ops('audit', '--accepted', join(dir, 'nothing'));
  expect([missing.exitCode, missing.err]).toEqual([1, expect.stringContaining('no such file')]);
});
