/** Callers that store the same orders at the same time, and the locks that they meet. */

import { beforeAll, expect, test } from 'vitest';
import { modify, type PoolConnection } from '../../src/mysql/connection.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { expectBooksToBalance, kindsOf, waitForStatement } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const lampAndMug = [
  { sku: 'lamp', quantity: 1, unitPrice: 4_900 },
  { sku: 'mug', quantity: 1, unitPrice: 1_450 },
];

/** A rival's transaction, rolled back in the end whatever happens. */
async function withRival(use: (rival: PoolConnection) => Promise<void>): Promise<void> {
  const rival = await stores.pool.getConnection();
  try {
    await rival.beginTransaction();
    await use(rival);
  } finally {
    await rival.rollback();
    rival.release();
  }
}

async function openBigSale(): Promise<string> {
  const skus = ['lamp', 'mug'].map((sku) => ({
    sku,
    name: sku,
    unitPrice: 100,
    total: 1_000,
    limitPerUser: null,
  }));
  return (await stores.openSale(buildSale({ skus }))).saleId;
}

test('two callers with overlapping batches in different order store each order once', async () => {
  const saleId = await openBigSale();
  const orders = Array.from({ length: 60 }, () => buildOrder({ saleId, items: lampAndMug }));
  const [one, other] = await Promise.all([
    stores.orders.storeOrders(orders.slice(0, 40), 'due'),
    stores.orders.storeOrders(orders.slice(20).toReversed(), 'started'),
  ]);
  expect(kindsOf(new Map([...one, ...other]), orders)).toEqual(orders.map(() => 'stored'));
  expect((await stores.sales.readStock(saleId)).map(({ held }) => held)).toEqual([60, 60]);
  await expectBooksToBalance(stores, saleId);
});

test('many callers with the same orders store each once', async () => {
  const saleId = await openBigSale();
  const orders = Array.from({ length: 12 }, () => buildOrder({ saleId, items: lampAndMug.toReversed() }));
  const callers = Array.from({ length: 8 }, (_, i) => [...orders.slice(i), ...orders.slice(0, i)]);
  const answers = await Promise.all(callers.map((batch) => stores.orders.storeOrders(batch, 'due')));
  for (const answer of answers) expect(kindsOf(answer, orders)).toEqual(orders.map(() => 'stored'));
  expect((await stores.sales.readStock(saleId)).map(({ held }) => held)).toEqual([12, 12]);
  await expectBooksToBalance(stores, saleId);
});

test('of two orders with the same request at once one is stored and the other is a duplicate', async () => {
  const saleId = await openBigSale();
  const rivals = [1, 2].map(() => buildOrder({ saleId, idempotencyKey: 'k' }));
  const answers = await Promise.all(rivals.map((order) => stores.orders.storeOrders([order], 'due')));
  const kinds = rivals.map((order, i) => kindsOf(answers[i] ?? new Map(), [order])[0]);
  expect(new Set(kinds)).toEqual(new Set(['duplicate_request', 'stored']));
  expect((await stores.sales.readStock(saleId))[0]?.held).toBe(1);
});

test('when an order is stored and abandoned at once, both callers learn the same end', async () => {
  const saleId = await openBigSale();
  const orders = Array.from({ length: 10 }, () => buildOrder({ saleId }));
  const ends = await Promise.all(
    orders.map(async (order) => {
      const [storing, abandoning] = await Promise.all([
        stores.orders.storeOrders([order], 'started'),
        stores.orders.abandon(order, 'store_unavailable'),
      ]);
      expect(kindsOf(storing, [order])).toEqual([abandoning.kind]);
      return abandoning.kind;
    }),
  );
  const stored = ends.filter((kind) => kind === 'stored').length;
  expect((await stores.sales.readStock(saleId))[0]?.held).toBe(stored);
  await expectBooksToBalance(stores, saleId);
});

test('a deadlock makes the whole transaction run again, and the order is counted once', async () => {
  const saleId = await openBigSale();
  const order = buildOrder({ saleId, items: lampAndMug });
  await withRival(async (rival) => {
    // Much written: so the server picks the other one as the victim.
    const rows = Array.from({ length: 500 }, (_, i) => ['test', 'weigh', String(i), '']);
    await modify(rival, 'INSERT INTO audit_log (actor, action, subject, detail) VALUES ?', [rows]);
    await modify(rival, `UPDATE skus SET position = 7 WHERE sale_id = ? AND sku = 'mug'`, [saleId]);
    const storing = stores.orders.storeOrders([order], 'due');
    await waitForStatement(stores.pool, `UPDATE skus SET held%'mug'`);
    // The order has the lamp and waits for the mug; now the circle closes.
    await modify(rival, `UPDATE skus SET position = 7 WHERE sale_id = ? AND sku = 'lamp'`, [saleId]);
    await rival.rollback();
    expect(kindsOf(await storing, [order])).toEqual(['stored']);
  });
  expect((await stores.sales.readStock(saleId)).map(({ held }) => held)).toEqual([1, 1]);
  await expectBooksToBalance(stores, saleId);
});

test('storing waits for a rebuild that changes the epoch, and then refuses the orders of the old one', async () => {
  const saleId = await openBigSale();
  const order = buildOrder({ saleId });
  await withRival(async (rival) => {
    await modify(rival, 'UPDATE sales SET epoch = 2 WHERE sale_id = ?', [saleId]);
    const storing = stores.orders.storeOrders([order], 'due');
    await waitForStatement(stores.pool, 'SELECT sale_id, epoch%SHARE MODE');
    await rival.commit();
    expect(kindsOf(await storing, [order])).toEqual(['lost_hold']);
  });
  expect((await stores.sales.readStock(saleId))[0]?.held).toBe(0);
});
