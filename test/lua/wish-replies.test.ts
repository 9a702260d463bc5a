/** Every reply of `wish-cancel`, by which a caller whose wait has ended has its order cancelled. */

import { beforeAll, expect, test } from 'vitest';
import type { OrderState } from '../../src/orders/order.ts';
import { orderKeys } from '../../src/redis/keys.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { newOrderNo, expectUnchanged } from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

async function hold(skus = buildSale().skus): Promise<{ saleId: string; orderNo: string }> {
  const { saleId } = await stores.openSale(buildSale({ skus }));
  const outcome = await stores.reservations.reserve(buildReserveRequest({ saleId }));
  if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
  return { saleId, orderNo: outcome.orderNo };
}

const wish = (orderNo: string) => stores.reservations.wishCancel(orderNo, 'shopper_request');

/** The reply, with the proof that nothing was written. */
function refusal({ saleId, orderNo }: { saleId: string; orderNo: string }) {
  return expectUnchanged(stores.redis, saleId, () => wish(orderNo));
}

const stored: OrderState = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };

test('a held order that is not stored is closing from then on, and keeps its units', async () => {
  const { saleId, orderNo } = await hold();

  expect(await wish(orderNo)).toBe('wished');

  const read = await stores.reservations.readOrder(orderNo);
  expect(read?.state).toEqual({ ...stored, status: 'queued', version: 0, reason: 'shopper_request' });
  expect(read?.order.wish).toBe('shopper_request');
  expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ available: 9, held: 1 });
});

test('of an order that MySQL has, MySQL is to be asked', async () => {
  const held = await hold();
  await stores.reservations.project(held.orderNo, stored);
  expect(await refusal(held)).toBe('stored');
});

test('a hold that has ended takes no wish', async () => {
  const held = await hold();
  await stores.reservations.release(held.orderNo);
  expect(await refusal(held)).toBe('ended');
});

test('an order that Redis does not have takes none', async () => {
  const { saleId } = await hold();
  expect(await refusal({ saleId, orderNo: newOrderNo(saleId) })).toBe('absent');
});

test('a free order takes none beside its hold: MySQL is to take it', async () => {
  const free = buildSale().skus.map((sku) => ({ ...sku, unitPrice: 0 }));
  expect(await refusal(await hold(free))).toBe('absent');
});

test('the wish stays when the hold is made again', async () => {
  const { saleId, orderNo } = await hold();
  await wish(orderNo);
  const read = await stores.reservations.readOrder(orderNo);
  if (!read) throw new Error('no order');
  await stores.redis.hset(orderKeys(orderNo).sale, 'epoch', '2');

  expect(await stores.reservations.reserveAgain(read.order)).toEqual({ kind: 'reserved', epoch: 2 });

  expect((await stores.reservations.readOrder(orderNo))?.order).toMatchObject({
    holdEpoch: 2,
    wish: 'shopper_request',
  });
  expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ held: 2 });
});
