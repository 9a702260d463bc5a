/** The command line: the reconciliation, the rebuild of a sale and the audit, run by hand. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { openOps, type Ops } from '../support/ops.ts';
import { select } from '../support/rows.ts';
import { waitFor } from '../support/wait.ts';

const BECAUSE = ['--reason', 'ticket 4711'];

let checkout: Checkout;
let ops: Ops;
beforeAll(async () => {
  checkout = await openCheckout();
  ops = openOps(checkout.stores, {
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

test('reconcile runs each step once and prints what it did', async () => {
  await buy();
  const { exitCode, out } = await ops('reconcile', ...BECAUSE);
  const { err } = await ops('reconcile', 'any', ...BECAUSE);
  const names = /there are (.*)\.\n$/.exec(err)?.[1]?.split(', ');
  const lines = out.trimEnd().split('\n');
  expect(lines[0]).toMatch(/^step +looked +repaired +parked/);
  expect(lines.slice(1).map((line) => line.split(' ')[0])).toEqual(names);
  expect(out).not.toContain('failed');
  expect(exitCode).toBe(0);
});

test('reconcile mends what the step that it is given finds, and says how much', async () => {
  const { saleId, shopper, orderNo } = await buy();
  await shopper.cancel(orderNo);
  await shopper.awaitStatus(orderNo, 'cancelled');
  const key = `holdfast:{${saleId}.0}:order:${orderNo}`;
  // What still runs is left to its own way.
  await checkout.client.workflow.getHandle(orderNo).result();
  expect(await checkout.stores.redis.hget(key, 'hold')).toBe('released');
  await checkout.stores.redis.hset(key, 'hold', 'held');
  await checkout.stores.redis.persist(key);
  await checkout.stores.redis.hincrby(`holdfast:{${saleId}.0}:stock`, 'lamp:held', 1);
  await checkout.stores.redis.hincrby(`holdfast:{${saleId}.0}:stock`, 'lamp:available', -1);
  await checkout.stores.redis.zadd(`holdfast:{${saleId}.0}:deadlines`, 1, orderNo);

  const { out } = await ops('reconcile', 'holds', ...BECAUSE);
  expect(out).toMatch(/^step .*\nholds +\d+ +1 +0\n$/);
  expect(await checkout.stores.redis.hget(key, 'hold')).toBe('released');
  expect(await logged('reconciled')).toContainEqual({
    actor: 'olga',
    reason: 'ticket 4711',
    subject: 'holds',
  });
});

test('a step that fails is named, and keeps no other from running', async () => {
  const away = openOps(checkout.stores, {
    TEMPORAL_NAMESPACE: checkout.client.options.namespace,
    PAYMENT_PROVIDER_URL: 'http://127.0.0.1:1',
  });
  const { exitCode, out } = await away('reconcile', ...BECAUSE);
  expect(exitCode).toBe(1);
  expect(out).toMatch(/provider-book +- +- +- +failed: /);
  expect(out).toMatch(/drift +\d+ +\d+ +\d+\n/);
});

test('a step that there is not is refused, and the others are named', async () => {
  const { exitCode, err } = await ops('reconcile', 'stars', ...BECAUSE);
  expect([exitCode, err]).toEqual([2, expect.stringMatching(/^There is no step stars; there are .*holds, /)]);
});

test('rebuild makes a sale again under a new epoch, and the log keeps who wanted it and why', async () => {
  const { saleId, shopper, orderNo } = await buy();
  const { exitCode, out } = await ops('rebuild', saleId, ...BECAUSE);
  expect([exitCode, out.replaceAll(/\s+/g, ' ')]).toEqual([
    0,
    expect.stringMatching(new RegExp(`^Sale ${saleId} is in epoch 2 after \\d+ ms, with 1 open orders and`)),
  ]);
  expect(await logged('sale_rebuilt')).toEqual([
    { actor: 'olga', reason: 'ticket 4711', subject: expect.stringContaining(saleId) },
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
    err: 'There is no sale never-was, or it has never been on.\n',
  });
  expect((await ops('rebuild', 'No Sale', ...BECAUSE)).exitCode).toBe(2);
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
