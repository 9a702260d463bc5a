/** Orders that MySQL refuses to store, alone and among others of their batch. */

import { ulid } from 'ulidx';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { createMysqlPool, modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { formatOrderNo } from '../../src/orders/order.ts';
import { mysqlStores } from '../../src/stores/bound.ts';
import { buildOrder, buildSale, uniqueSaleId } from '../support/factories.ts';
import { everything, expectBooksToBalance, kindsOf } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const openSale = async (): Promise<string> => (await stores.openSale(buildSale())).saleId;

/** Eight good orders with a bad one among them. */
function batchAround(saleId: string, position: number, culprit: Partial<Order>): Order[] {
  return Array.from({ length: 9 }, (_, i) => buildOrder({ saleId, ...(i === position ? culprit : {}) }));
}

async function expectRefusedAlone(saleId: string, batch: Order[], position: number, reason: string) {
  const outcomes = await stores.orders.storeOrders(batch, 'due');
  expect(kindsOf(outcomes, batch)).toEqual(batch.map((_, i) => (i === position ? reason : 'stored')));
  expect(await stores.orders.read(batch[position]?.orderNo ?? '')).toBeUndefined();
  expect((await stores.sales.readStock(saleId))[0]?.held).toBe(8);
  await expectBooksToBalance(stores, saleId);
}

test.each([0, 4, 8])(
  'an order that the columns do not take is refused alone, at place %i of nine',
  async (i) => {
    const saleId = await openSale();
    await expectRefusedAlone(
      saleId,
      batchAround(saleId, i, { reference: 'x'.repeat(129) }),
      i,
      'invalid_order',
    );
  },
);

test('an order of a SKU that the sale does not have is refused alone', async () => {
  const saleId = await openSale();
  const batch = batchAround(saleId, 5, { items: [{ sku: 'sofa', quantity: 1, unitPrice: 100 }] });
  await expectRefusedAlone(saleId, batch, 5, 'unknown_sku');
});

test('an order of more than the total is refused alone', async () => {
  const saleId = await openSale();
  const batch = batchAround(saleId, 3, { items: [{ sku: 'lamp', quantity: 11, unitPrice: 4_900 }] });
  await expectRefusedAlone(saleId, batch, 3, 'stock_exhausted');
});

test('an order is refused as a whole where one of its lines is too much', async () => {
  const saleId = await openSale();
  const items = [
    { sku: 'lamp', quantity: 1, unitPrice: 4_900 },
    { sku: 'mug', quantity: 6, unitPrice: 1_450 },
  ];
  await expectRefusedAlone(saleId, batchAround(saleId, 1, { items }), 1, 'stock_exhausted');
});

test('of more orders than there is stock exactly as many are stored as there are units', async () => {
  const saleId = await openSale();
  const orders = Array.from({ length: 17 }, () => buildOrder({ saleId }));
  const kinds = kindsOf(await stores.orders.storeOrders(orders, 'due'), orders);
  expect(kinds.filter((kind) => kind === 'stored')).toHaveLength(10);
  expect(kinds.filter((kind) => kind === 'stock_exhausted')).toHaveLength(7);
  await expectBooksToBalance(stores, saleId);
});

test('several culprits in one batch each get their own reason', async () => {
  const saleId = await openSale();
  const batch = batchAround(saleId, 1, { reference: 'x'.repeat(129) });
  batch[6] = buildOrder({ saleId, items: [{ sku: 'sofa', quantity: 1, unitPrice: 1 }] });
  const kinds = kindsOf(await stores.orders.storeOrders(batch, 'due'), batch);
  expect(kinds[1]).toBe('invalid_order');
  expect(kinds[6]).toBe('unknown_sku');
  expect(kinds.filter((kind) => kind === 'stored')).toHaveLength(7);
});

test('the same request under another order number is a duplicate, in a later batch and in the same', async () => {
  const saleId = await openSale();
  const first = buildOrder({ saleId, idempotencyKey: 'k' });
  const later = buildOrder({ saleId, idempotencyKey: 'k' });
  const [one, two] = [
    buildOrder({ saleId, idempotencyKey: 'same' }),
    buildOrder({ saleId, idempotencyKey: 'same' }),
  ];
  await stores.orders.storeOrder(first, 'due');
  const batch = [later, one, two];
  const kinds = kindsOf(await stores.orders.storeOrders(batch, 'due'), batch);
  expect(kinds[0]).toBe('duplicate_request');
  // Of two in one batch the lesser order number wins, and numbers of the same millisecond are in no order.
  expect(new Set(kinds.slice(1))).toEqual(new Set(['stored', 'duplicate_request']));
  expect((await stores.sales.readStock(saleId))[0]?.held).toBe(2);
  await expectBooksToBalance(stores, saleId);
});

test('the same idempotency key of another user is no duplicate', async () => {
  const saleId = await openSale();
  const orders = ['ada', 'bo'].map((userId) => buildOrder({ saleId, userId, idempotencyKey: 'k' }));
  expect(kindsOf(await stores.orders.storeOrders(orders, 'due'), orders)).toEqual(['stored', 'stored']);
});

test('an order of another epoch has lost its hold, unless it was stored in its time', async () => {
  const saleId = await openSale();
  const [stored, late] = [buildOrder({ saleId }), buildOrder({ saleId })];
  await stores.orders.storeOrder(stored, 'due');
  await modify(stores.pool, 'UPDATE sales SET epoch = 2 WHERE sale_id = ?', [saleId]);
  const current = buildOrder({
    saleId,
    orderNo: formatOrderNo({ saleId, shard: 0, epoch: 2, ulid: ulid() }),
  });
  const batch = [stored, late, current];
  expect(kindsOf(await stores.orders.storeOrders(batch, 'due'), batch)).toEqual([
    'stored',
    'lost_hold',
    'stored',
  ]);
  await expectBooksToBalance(stores, saleId);
});

test('an order of a sale that MySQL does not know is invalid', async () => {
  const order = buildOrder({ saleId: uniqueSaleId() });
  expect(kindsOf(await stores.orders.storeOrders([order], 'due'), [order])).toEqual(['invalid_order']);
});

test('an order that was abandoned before stays abandoned, and its neighbours are stored', async () => {
  const saleId = await openSale();
  const [abandoned, good] = [buildOrder({ saleId }), buildOrder({ saleId })];
  await stores.orders.abandon(abandoned, 'store_unavailable');
  const outcomes = await stores.orders.storeOrders([abandoned, good], 'due');
  expect(kindsOf(outcomes, [abandoned, good])).toEqual(['abandoned', 'stored']);
  expect(outcomes.get(abandoned.orderNo)).toMatchObject({
    state: { status: 'failed', version: 1, reason: 'store_unavailable' },
  });
  expect((await stores.sales.readStock(saleId))[0]?.held).toBe(1);
});

test('a refused order leaves no trace', async () => {
  const saleId = await openSale();
  const before = await everything(stores.pool, saleId);
  await stores.orders.storeOrders([buildOrder({ saleId, reference: 'x'.repeat(129) })], 'due');
  expect(await everything(stores.pool, saleId)).toEqual(before);
});

test('a store that is away is an error and never a refusal', async () => {
  // Nothing listens on port 1.
  const away = createMysqlPool('mysql://root@127.0.0.1:1/holdfast');
  onTestFinished(() => away.end());
  const orders = Array.from({ length: 3 }, () => buildOrder());
  await expect(mysqlStores(away).orders.storeOrders(orders, 'due')).rejects.toMatchObject({
    code: 'STORE_UNAVAILABLE',
    cause: { code: 'ECONNREFUSED' },
  });
});

test('a store that forgot its tables is an error and never a refusal', async () => {
  const url = new URL(stores.config.MYSQL_URL);
  url.pathname = '/information_schema';
  const wrong = createMysqlPool(url.href);
  onTestFinished(() => wrong.end());
  await expect(mysqlStores(wrong).orders.storeOrders([buildOrder()], 'due')).rejects.toThrow();
});
