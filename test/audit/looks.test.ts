/** The looks of an audit: only what stays wrong is a finding, and all sales share what is read once. */

import { beforeAll, expect, test } from 'vitest';
import type { Subject } from '../../src/audit/look.ts';
import { auditAll } from '../../src/audit/run-audit.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { buildPayment } from '../support/payment-notices.ts';

let checkout: Checkout;
beforeAll(async () => {
  checkout = await openCheckout();
});

async function openSale(): Promise<Extract<Subject, { kind: 'sale' }>> {
  const { saleId } = await checkout.stores.openSale(buildSale());
  return { kind: 'sale', saleId, accepted: [] };
}

const limitsOf = (saleId: string) => saleKeys({ saleId, shard: 0 }).limits;

/** Audits, and calls `onLook` as each look begins. */
function auditWith(onLook: () => Promise<unknown>, subjects: readonly Subject[], settleMs: number) {
  const { provider } = checkout;
  async function* listPayments() {
    await onLook();
    yield* provider.listPayments();
  }
  return auditAll({ ...checkout, provider: { ...provider, listPayments } }, subjects, settleMs);
}

test('what one look finds and the next does not is no finding, and what both find is one', async () => {
  const { redis } = checkout.stores;
  const sale = await openSale();
  const limits = limitsOf(sale.saleId);
  let looks = 0;
  const disturb = async () => {
    await redis.hdel(limits, `lamp:passing-${looks}`);
    looks += 1;
    await redis.hset(limits, `lamp:passing-${looks}`, 1);
  };

  expect(await auditWith(disturb, [sale], 0)).toMatchObject([{ findings: [] }]);
  expect(looks).toBe(2);

  await redis.hset(limits, 'lamp:stays', 1);
  const [audit] = await auditWith(disturb, [sale], 0);
  expect(audit?.findings).toMatchObject([{ rule: 'limits are true', subject: 'lamp:stays' }]);
});

test('one read of the book serves all sales of a look, and broken sales settle side by side', async () => {
  const { redis } = checkout.stores;
  const sales = [await openSale(), await openSale(), await openSale()];
  let looks = 0;
  const count = async () => (looks += 1);

  expect(await auditWith(count, [...sales, { kind: 'strays' }], 60_000)).toHaveLength(4);
  expect(looks).toBe(1);

  for (const { saleId } of sales) await redis.hset(limitsOf(saleId), 'lamp:stays', 1);
  const audits = await auditWith(count, sales, 0);
  expect(audits.map(({ saleId, findings }) => [saleId, findings.length])).toEqual(
    sales.map(({ saleId }) => [saleId, 1]),
  );
  expect(looks).toBe(3);
});

test('a sale that a look finds clean is not looked at again while another settles', async () => {
  const { redis } = checkout.stores;
  const [clean, broken] = [await openSale(), await openSale()];
  await redis.hset(limitsOf(broken.saleId), 'lamp:stays', 1);
  let looks = 0;
  const breakLate = async () => {
    looks += 1;
    if (looks === 2) await redis.hset(limitsOf(clean.saleId), 'lamp:late', 1);
  };

  const audits = await auditWith(breakLate, [clean, broken], 0);

  expect(audits.map(({ findings }) => findings.length)).toEqual([0, 1]);
});

test('an order that was paid before a workflow of it began is counted, and one with a workflow is not', async () => {
  const { stores } = checkout;
  const sale = await openSale();
  const [without, withWorkflow] = [buildOrder({ saleId: sale.saleId }), buildOrder({ saleId: sale.saleId })];
  await stores.orders.storeOrder(withWorkflow, 'started');
  for (const order of [without, withWorkflow]) await stores.payments.record('sandbox', buildPayment(order));
  await stores.orders.storeOrder(without, 'due');

  const [audit] = await auditAll(checkout, [sale], 0);

  expect(audit).toMatchObject({ orders: 2, paidWithoutWorkflow: 1 });
});
