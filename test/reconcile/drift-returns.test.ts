/**
 * Drift in a sale of which units are put back on sale: what Redis has yet to follow is none, nor what it
 * follows while it is looked at.
 */

import { beforeAll, beforeEach, expect, test } from 'vitest';
import type { ProviderPayment, RefundWish } from '../../src/money/payment.ts';
import { mendDrift } from '../../src/reconcile/drift.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import type { Stores } from '../../src/stores/open.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildSale } from '../support/factories.ts';
import { buildPayment, buildReversal } from '../support/payment-notices.ts';
import { readPaymentId, select } from '../support/rows.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/** A run looks at every sale that Redis has. */
beforeEach(() => stores.redis.flushall());

/** @param parts stores that the step has instead */
const run = (parts: Partial<TestStores> = {}) =>
  mendDrift({ ...stores, ...parts, log: silent }, new AbortController().signal);

const numberOf = (saleId: string, i: number): string => `${saleId}-0-1-${String(i).padStart(26, '0')}`;

/** MySQL has so many orders of one lamp each as sold and returned, and Redis has not followed the last. */
async function openReturned(orders: number): Promise<string> {
  const { saleId } = await stores.openSale(buildSale());
  const digits = `(${Array.from({ length: 10 }, (_, i) => `SELECT ${i} AS d`).join(' UNION ALL ')})`;
  const numbers = ['a', 'b', 'c', 'e', 'f'].map((name) => `${digits} ${name}`).join(' CROSS JOIN ');
  for (const movement of ['hold', 'sell', 'return']) {
    // Without the bound of a statement: it takes seconds on a busy machine.
    await stores.pool.query(
      `INSERT INTO stock_ledger (sale_id, sku, order_no, movement, quantity)
       SELECT ?, 'lamp', CONCAT(?, LPAD(i, 26, '0')), ?, 1 FROM
         (SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d AS i FROM ${numbers}) n
       WHERE i < ? ORDER BY i`,
      [saleId, `${saleId}-0-1-`, movement, orders],
    );
  }
  const { stock, returns } = saleKeys({ saleId, shard: 0 });
  const followed = Array.from({ length: orders - 1 }, (_, i) => `${numberOf(saleId, i)}:stock`);
  for (let from = 0; from < followed.length; from += 10_000)
    await stores.redis.sadd(returns, ...followed.slice(from, from + 10_000));
  await stores.redis.hincrby(stock, 'lamp:available', -1);
  await stores.redis.hincrby(stock, 'lamp:sold', 1);
  return saleId;
}

test.each([
  ['many', 10_001],
  ['very many', 50_001],
])(
  'a return that Redis has yet to follow is no drift, though %s units were put back on sale, and drift is found beside it',
  async (_, orders) => {
    const saleId = await openReturned(orders);

    expect(await run()).toMatchObject({ repaired: 0, parked: 0 });

    const stock = { available: 9, held: 0, sold: 1 };
    expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject(stock);
    await stores.redis.hincrby(saleKeys({ saleId, shard: 0 }).stock, 'lamp:available', 1);
    expect(await run()).toMatchObject({ repaired: 1, parked: 0 });
    expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject(stock);
  },
);

interface Refunded {
  paymentId: number;
}

/** Two lamps that a user bought and paid. */
async function buy(saleId: string, userId = 'ada'): Promise<ProviderPayment> {
  const order = await acceptOrder(stores, saleId, { userId, items: [{ sku: 'lamp', quantity: 2 }] });
  await stores.orders.storeOrder(order, 'started');
  const payment = buildPayment(order);
  await stores.payments.record('sandbox', payment);
  await stores.reservations.confirm(order.orderNo);
  return payment;
}

/** The money is back, and nothing has come back of the order yet. */
async function refund(payment: ProviderPayment, wish: RefundWish): Promise<Refunded> {
  const { orderNo } = payment;
  const decision = { actor: 'olga', reason: 'it arrived broken' };
  const request = { idempotencyKey: orderNo, fingerprint: 'f' };
  const outcome = await stores.refunds.requestByOrder(orderNo, wish, decision, request);
  if (outcome.kind !== 'requested') throw new Error(outcome.kind);
  const { amount } = outcome.refund;
  await stores.refunds.recordReversals('sandbox', [buildReversal(payment, { amount })]);
  return { paymentId: await readPaymentId(stores.pool, orderNo) };
}

/** As the refund workflow does: MySQL first, then Redis. */
async function giveBack({ paymentId }: Refunded): Promise<void> {
  await stores.refunds.bookGiveBacks(paymentId);
  for (const given of await stores.refunds.readGiveBacks(paymentId))
    expect(await stores.reservations.giveBack(given)).toEqual({ kind: 'returned' });
}

/** Each look of the step finds that between its reads of the two stores one more of these gave back. */
function givingBackAmidEachLook(refunded: Refunded[]): { saleBooks: Stores['saleBooks']; left: Refunded[] } {
  const left = [...refunded];
  const saleBooks: Stores['saleBooks'] = {
    ...stores.saleBooks,
    async read(saleId, query, use) {
      const next = left.shift();
      if (next) await giveBack(next);
      return stores.saleBooks.read(saleId, query, use);
    },
  };
  return { saleBooks, left };
}

const whole: RefundWish = { kind: 'all', restock: true, restoresLimit: true };
const oneLamp: RefundWish = {
  kind: 'units',
  items: [{ sku: 'lamp', quantity: 1 }],
  amount: undefined,
  charges: false,
  restock: true,
  restoresLimit: true,
};

test.each([
  ['units and allowances of refunds', whole, { available: 8, sold: 2 }, 2],
  ['those of refunds in part', oneLamp, { available: 5, sold: 5 }, 5],
  ['the units alone', { ...whole, restoresLimit: false }, { available: 8, sold: 2 }, 8],
  ['the allowances alone', { ...whole, restock: false }, { available: 2, sold: 8 }, 2],
] satisfies [string, RefundWish, object, number][])(
  'what comes back between the reads of every look is not taken for drift, and drift is found afterwards: %s',
  async (_, wish, stock, limit) => {
    const skus = [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 10, limitPerUser: null }];
    const { saleId } = await stores.openSale(buildSale({ skus }));
    const keys = saleKeys({ saleId, shard: 0 });
    await buy(saleId);
    const refunded: Refunded[] = [];
    while (refunded.length < 3) refunded.push(await refund(await buy(saleId), wish));
    const expectRight = async () => {
      expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ ...stock, held: 0 });
      expect((await stores.sales.readStock(saleId))[0]).toMatchObject({ ...stock, held: 0 });
      expect(await stores.redis.hget(keys.limits, 'lamp:ada')).toBe(String(limit));
    };
    const { saleBooks, left } = givingBackAmidEachLook(refunded);

    // The first look sees each of them come back, until none is left.
    while (left.length > 0) expect(await run({ saleBooks })).toMatchObject({ repaired: 0, parked: 0 });

    await expectRight();
    const mended = 'SELECT action FROM audit_log WHERE subject = ?';
    expect(await select(stores.pool, mended, [`sale ${saleId} lamp`])).toEqual([]);
    expect(await run()).toMatchObject({ repaired: 0, parked: 0 });
    await stores.redis.hincrby(keys.stock, 'lamp:available', 1);
    await stores.redis.hincrby(keys.limits, 'lamp:ada', 1);
    expect(await run()).toMatchObject({ repaired: 2, parked: 0 });
    await expectRight();
  },
);

test('what comes back of one SKU keeps no drift of another from being corrected', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const refunded: Refunded[] = [];
  for (const userId of ['ada', 'bo', 'cy']) refunded.push(await refund(await buy(saleId, userId), whole));
  await stores.redis.hincrby(saleKeys({ saleId, shard: 0 }).stock, 'mug:available', 2);
  const { saleBooks, left } = givingBackAmidEachLook(refunded);

  expect(await run({ saleBooks })).toMatchObject({ repaired: 1, parked: 0 });

  expect(left).toEqual([]);
  expect((await stores.saleStock.read(saleId))?.skus).toMatchObject([
    { sku: 'lamp', available: 10, sold: 0 },
    { sku: 'mug', available: 5, sold: 0 },
  ]);
});

test('what comes back between the last look and the correction is not corrected away', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const refunded = await refund(await buy(saleId), whole);
  const keys = saleKeys({ saleId, shard: 0 });
  await stores.redis.hincrby(keys.stock, 'lamp:sold', 1);
  await stores.redis.hincrby(keys.limits, 'lamp:ada', 3);
  const { mendStock } = stores.saleMends;
  const saleMends = {
    ...stores.saleMends,
    mendStock: async (mend: Parameters<typeof mendStock>[0]) => {
      await giveBack(refunded);
      return mendStock(mend);
    },
  };

  expect(await run({ saleMends })).toMatchObject({ repaired: 2, parked: 0 });

  expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ available: 10, held: 0, sold: 0 });
  expect(await stores.redis.hget(keys.limits, 'lamp:ada')).toBeNull();
  expect(await run()).toMatchObject({ repaired: 0, parked: 0 });
});

test('while MySQL may have lost an order that is paid for, none of its units are put on sale again', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const { stock } = saleKeys({ saleId, shard: 0 });
  await stores.redis.hincrby(stock, 'lamp:available', -1);
  await stores.redis.hincrby(stock, 'lamp:sold', 1);
  await stores.pool.query(
    "INSERT INTO audit_log (actor, action, subject, detail) VALUES ('holdfast', 'commits_lost', 'mysql', '{}')",
  );

  expect(await run()).toMatchObject({ repaired: 0, parked: 1 });
  // It stays parked as long as the stores differ.
  expect(await run()).toMatchObject({ repaired: 0, parked: 1 });
  expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ available: 9, sold: 1 });
  const parked = "SELECT resolved_at FROM parked WHERE kind = 'sale'";
  expect(await select(stores.pool, parked)).toEqual([{ resolved_at: null }]);

  await stores.pool.query('UPDATE audit_log SET occurred_at = occurred_at - INTERVAL 28 HOUR');
  expect(await run()).toMatchObject({ repaired: 1, parked: 0 });
  await run();
  expect(await select(stores.pool, parked)).not.toEqual([{ resolved_at: null }]);
});
