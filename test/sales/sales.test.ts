/** Sales in MySQL and their warm-up in Redis, which never makes stock a second time. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { createMysqlPool, modify } from '../../src/mysql/connection.ts';
import { findActive, listSales } from '../../src/redis/outbox.ts';
import { mysqlStores } from '../../src/stores/bound.ts';
import { buildOrder, buildReserveRequest, buildSale } from '../support/factories.ts';
import { pay } from '../support/payment-notices.ts';
import { selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const freshStock = [
  { sku: 'lamp', total: 10, available: 10, held: 0, sold: 0 },
  { sku: 'mug', total: 5, available: 5, held: 0, sold: 0 },
];

/** As if Redis had lost the sale. */
async function loseSale(saleId: string): Promise<void> {
  await stores.redis.del(...(await stores.redis.keys(`holdfast:{${saleId}.0}:*`)));
}

test('a warmed-up sale is in Redis as it was created', async () => {
  const sale = await stores.openSale(buildSale());
  const view = await stores.saleStock.read(sale.saleId);
  const { refundRestoresLimit: _, ...shown } = sale;
  expect(view).toEqual({
    ...shown,
    state: 'open',
    skus: sale.skus.map((item) => ({ ...item, available: item.total, held: 0, sold: 0 })),
  });
});

test('a warmed-up sale is one that relays follow', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const active = await findActive(stores.redis, await listSales(stores.redis));
  expect(active).toContainEqual({ saleId, shard: 0 });
});

test('a sale that is not in Redis is unknown there', async () => {
  const sale = buildSale();
  await stores.sales.create(sale);
  expect(await stores.saleStock.read(sale.saleId)).toBeUndefined();
});

test('a sale can be closed in the millisecond of its opening', async () => {
  const opensAtMs = Math.floor(Date.now() / 1_000) * 1_000;
  const { saleId } = await stores.openSale(buildSale({ opensAtMs }));
  const pool = createMysqlPool(stores.config.MYSQL_URL);
  onTestFinished(() => pool.end());
  // By the clock of these sessions it is always that millisecond.
  pool.pool.on('connection', (connection) => {
    connection.query(`SET timestamp = ${opensAtMs / 1_000}`);
  });
  const { saleChanges } = mysqlStores(pool);

  const closing = await saleChanges.record({ action: 'close', saleId }, { actor: 'grace', reason: null });

  if (closing.kind !== 'recorded') throw new Error(closing.kind);
  expect(await saleChanges.complete(closing.change, stores.saleStock)).toEqual({ kind: 'applied' });
  expect((await stores.saleStock.read(saleId))?.state).toBe('closed');
});

test('creating a sale again, or twice at once, leaves it as it was', async () => {
  const sale = buildSale();
  await Promise.all([stores.sales.create(sale), stores.sales.create(sale)]);
  await stores.sales.create({ ...sale, name: 'Another', skus: sale.skus.slice(0, 1) });
  expect(await stores.sales.readStock(sale.saleId)).toEqual(freshStock);
  const { name } = await selectOne(stores.pool, 'SELECT name FROM sales WHERE sale_id = ?', [sale.saleId]);
  expect(name).toBe('Test sale');
});

test('warming up again gives no stock back', async () => {
  const { saleId } = await stores.openSale(buildSale());
  await stores.reservations.reserve(buildReserveRequest({ saleId }));
  await stores.sales.warmUp(saleId, stores.saleStock);
  expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ available: 9, held: 1 });
});

test('a warm-up that died before its mark is finished by the next, and gives no stock back', async () => {
  const { saleId } = await stores.openSale(buildSale());
  await stores.reservations.reserve(buildReserveRequest({ saleId }));
  await modify(stores.pool, 'UPDATE sales SET warmed_up_at = NULL WHERE sale_id = ?', [saleId]);
  await stores.sales.warmUp(saleId, stores.saleStock);
  expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ available: 9, held: 1 });
  const { warmed } = await selectOne(
    stores.pool,
    'SELECT warmed_up_at IS NOT NULL AS warmed FROM sales WHERE sale_id = ?',
    [saleId],
  );
  expect(warmed).toBe(1);
});

test('stock that Redis has lost never comes back as unsold: the sale stays absent', async () => {
  const { saleId } = await stores.openSale(buildSale());
  await loseSale(saleId);
  await stores.sales.warmUp(saleId, stores.saleStock);
  expect(await stores.saleStock.read(saleId)).toBeUndefined();
  expect(await stores.reservations.reserve(buildReserveRequest({ saleId }))).toEqual({ kind: 'sale-absent' });
});

test('two processes that warm up at once make the stock once', async () => {
  const sale = buildSale();
  await stores.sales.create(sale);
  const warmUp = () => stores.sales.warmUp(sale.saleId, stores.saleStock);
  await Promise.all([warmUp(), warmUp(), warmUp()]);
  expect(await stores.saleStock.read(sale.saleId)).toMatchObject({ skus: freshStock });
});

test('a sale that does not exist cannot be warmed up', async () => {
  await expect(stores.sales.warmUp(buildSale().saleId, stores.saleStock)).rejects.toThrow('no sale');
});

test('the stock in MySQL follows the orders', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const [paid, cancelled, waiting] = [
    buildOrder({ saleId }),
    buildOrder({ saleId }),
    buildOrder({ saleId, items: [{ sku: 'mug', quantity: 3, unitPrice: 1_450 }] }),
  ];
  await stores.orders.storeOrders([paid, cancelled, waiting], 'due');
  await pay(stores, paid);
  await stores.orders.cancel(cancelled.orderNo, 'operator_request', { force: false });
  expect(await stores.sales.readStock(saleId)).toEqual([
    { sku: 'lamp', total: 10, available: 9, held: 0, sold: 1 },
    { sku: 'mug', total: 5, available: 2, held: 3, sold: 0 },
  ]);
});

test('a process that froze in a warm-up brings back no stock that Redis sold and lost meanwhile', async () => {
  const sale = buildSale();
  const { saleId } = sale;
  await stores.sales.create(sale);
  const frozen = await stores.saleChanges.recordWarmUp(saleId);
  // Another process goes on with it, and the sale begins.
  await stores.sales.warmUp(saleId, stores.saleStock);
  await loseSale(saleId);

  // To its own clock no time has passed, as when its machine was frozen as a whole.
  expect(frozen && (await stores.saleChanges.complete(frozen, stores.saleStock))).toEqual({
    kind: 'applied',
  });
  expect(await stores.saleStock.checkLife(saleId)).toEqual({ kind: 'sale-absent' });
});
