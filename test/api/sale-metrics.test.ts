/** The metrics of a sale: those that are open or ended within the hour, and nothing that nobody counts. */

import { beforeEach, expect, test } from 'vitest';
import { showBoard } from '../../src/api/gauges.ts';
import { createMetrics } from '../../src/metrics.ts';
import { modify } from '../../src/mysql/connection.ts';
import { saleKeys, wholeSale } from '../../src/redis/keys.ts';
import { createStatusBoard, statusReaders, type StatusReaders } from '../../src/status/board.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { dispatchEvents } from '../support/events.ts';
import { buildSale } from '../support/factories.ts';
import { pay } from '../support/payment-notices.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { samplesOf } from './metrics.ts';

const HOUR_MS = 3_600_000;

let stores: TestStores;
beforeEach(async (context) => {
  stores = await openTestStores({}, context.onTestFinished);
});

function show(instead: Partial<StatusReaders> = {}) {
  const metrics = createMetrics();
  const board = createStatusBoard({ ...statusReaders(async () => stores, stores), ...instead });
  showBoard(metrics, board);
  return async () => {
    await board.look();
    return samplesOf(metrics, 'holdfast_sale_');
  };
}

test('an open sale shows its units, orders, money and refusals', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const order = await acceptOrder(stores, saleId);
  await stores.orders.storeOrder(order, 'due');
  await pay(stores, order);
  await stores.reservations.confirm(order.orderNo);
  await acceptOrder(stores, saleId, { userId: 'bo', items: [{ sku: 'mug', quantity: 2 }] });
  await stores.liveFigures.noteRefused(saleId, new Map([['sold_out', 3]]), false);
  await dispatchEvents(stores);

  expect(await show()()).toEqual([
    `holdfast_sale_units{sale="${saleId}",sku="lamp",what="available"} 9`,
    `holdfast_sale_units{sale="${saleId}",sku="lamp",what="held"} 0`,
    `holdfast_sale_units{sale="${saleId}",sku="lamp",what="sold"} 1`,
    `holdfast_sale_units{sale="${saleId}",sku="mug",what="available"} 3`,
    `holdfast_sale_units{sale="${saleId}",sku="mug",what="held"} 2`,
    `holdfast_sale_units{sale="${saleId}",sku="mug",what="sold"} 0`,
    `holdfast_sale_refused{sale="${saleId}",reason="sold_out"} 3`,
    `holdfast_sale_orders{sale="${saleId}",what="accepted"} 1`,
    `holdfast_sale_orders{sale="${saleId}",what="paid"} 1`,
    `holdfast_sale_orders{sale="${saleId}",what="ended_unpaid"} 0`,
    `holdfast_sale_money{sale="${saleId}",currency="EUR",what="taken"} 4900`,
    `holdfast_sale_money{sale="${saleId}",currency="EUR",what="refunded"} 0`,
  ]);
});

/** Opened and closed so long ago; negative: it is yet to. */
async function openSale(openedAgoMs: number, closedAgoMs: number): Promise<string> {
  const times = { opensAtMs: Date.now() - openedAgoMs, closesAtMs: Date.now() + HOUR_MS };
  const { saleId } = await stores.openSale(buildSale(times));
  await stores.redis.hset(saleKeys(wholeSale(saleId)).sale, 'closes_at', Date.now() - closedAgoMs);
  return saleId;
}

test('a sale shows from its opening until an hour after its end', async () => {
  await openSale(-60_000, -HOUR_MS);
  await openSale(3 * HOUR_MS, 61 * 60_000);
  const shown = [await openSale(2 * HOUR_MS, -HOUR_MS), await openSale(3 * HOUR_MS, 58 * 60_000)];
  expect(await stores.liveFigures.listShown()).toEqual(shown);
});

test('of too many sales the twenty that opened last show', async () => {
  const opened = [];
  for (let i = 1; i <= 21; i += 1) opened.push(await openSale(i * 1_000, -HOUR_MS));
  expect(await stores.liveFigures.listShown()).toEqual(opened.slice(0, 20));
});

test('SKUs beyond the first fifty show as one', async () => {
  const skus = Array.from({ length: 53 }, (_, i) => {
    return { sku: `sku-${i}`, name: 'Thing', unitPrice: 100, total: 2, limitPerUser: null };
  });
  await stores.openSale(buildSale({ skus }));
  const available = (await show()()).filter((line) => line.includes('what="available"'));
  expect(available).toHaveLength(51);
  expect(available.at(-1)).toMatch(/sku="others",what="available"} 6$/);
});

test('orders and money are absent while nobody counts them, and units stay', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const order = await acceptOrder(stores, saleId);
  await stores.orders.storeOrder(order, 'due');
  await modify(stores.pool, 'UPDATE order_events SET occurred_at = occurred_at - INTERVAL 1 MINUTE');
  const read = show();
  const names = async () => new Set((await read()).map((line) => line.split('{')[0]));
  expect(await names()).toEqual(new Set(['holdfast_sale_units']));
  await dispatchEvents(stores);
  expect(await names()).toContain('holdfast_sale_orders');
});

test.each([
  ['Redis', 'saleStocks', ['holdfast_sale_orders', 'holdfast_sale_money']],
  ['MySQL', 'saleTotals', ['holdfast_sale_units']],
] as const)('what %s has is absent while it does not answer, and the rest stays', async (_, part, left) => {
  await stores.openSale(buildSale());
  const lines = await show({ [part]: () => Promise.reject(new Error('away')) })();
  expect(new Set(lines.map((line) => line.split('{')[0]))).toEqual(new Set(left));
});
