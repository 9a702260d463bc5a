/** The API while Redis is at maxmemory: no new orders, and everything else goes on. */

import { ulid } from 'ulidx';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildSale } from '../../support/factories.ts';
import { orderOf, pressPay, refusalOf, send, sessionOf } from '../../support/shopper.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openApi();
});
afterAll(() => api.close());

/** One byte is always used up already, so Redis refuses whatever wants memory. */
async function withFullMemory(use: () => Promise<void>): Promise<void> {
  await api.stores.redis.config('SET', 'maxmemory', '1');
  try {
    await use();
  } finally {
    await api.stores.redis.config('SET', 'maxmemory', '0');
  }
}

test('at maxmemory an order is refused, nothing is held, and the same key buys once there is room', async () => {
  const { saleId } = await api.stores.openSale(buildSale());
  const shopper = await api.shopper();
  const cart = { saleId, items: [{ sku: 'lamp', quantity: 1 }] };
  const key = { 'idempotency-key': ulid() };
  const before = await api.stores.saleStock.read(saleId);

  await withFullMemory(async () => {
    const reply = await shopper.placeOrder(cart, key);
    expect(refusalOf(reply)).toBe('503 stock_unavailable');
    expect(reply.headers.get('retry-after')).toBe('5');
    expect(await api.stores.saleStock.read(saleId)).toEqual(before);
    expect((await send(`${api.url}/readyz`, 'GET')).status).toBe(200);
  });

  expect((await shopper.placeOrder(cart, key)).status).toBe(202);
  expect((await api.stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ available: 9, held: 1 });
});

test('at maxmemory orders that were accepted are read, paid and cancelled', async () => {
  const { saleId } = await api.stores.openSale(buildSale());
  const shopper = await api.shopper();
  const [toPay, toCancel] = [await shopper.buy(saleId), await shopper.buy(saleId)];
  await api.store(toPay);

  await withFullMemory(async () => {
    await pressPay(sessionOf(await shopper.pay(toPay)).url);
    await waitFor('the notice', async () => (await shopper.readOrder(toPay)).payment === 'received');
    expect(orderOf(await shopper.cancel(toCancel))).toMatchObject({ reason: 'shopper_request' });
  });
});
