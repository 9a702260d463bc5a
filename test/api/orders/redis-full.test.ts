/** The API while Redis is at maxmemory: no new orders, and everything else goes on. */

import { ulid } from 'ulidx';
import { beforeAll, expect, test } from 'vitest';
import { buildSale } from '../../support/factories.ts';
import { orderOf, pressPay, refusalOf, send, sessionOf } from '../../support/shopper.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openApi();
});

/** One byte is always used up already, so Redis refuses whatever wants memory. */
const withFullMemory = (use: () => Promise<void>): Promise<void> => withMaxmemory(1, use);

async function withMaxmemory(bytes: number, use: () => Promise<void>): Promise<void> {
  await api.stores.redis.config('SET', 'maxmemory', String(bytes));
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

test('with less than a tenth of maxmemory left new orders are refused, with nothing taken, and all others answered', async () => {
  const { saleId } = await api.stores.openSale(buildSale());
  const shopper = await api.shopper();
  const cart = { saleId, items: [{ sku: 'lamp', quantity: 1 }] };
  const [earlier, later] = [{ 'idempotency-key': ulid() }, { 'idempotency-key': ulid() }];
  const accepted = orderOf(await shopper.placeOrder(cart, earlier));
  const before = await api.stores.saleStock.read(saleId);
  const used = Number(/^used_memory:(\d+)/m.exec(await api.stores.redis.info('memory'))?.[1]);

  await withMaxmemory(Math.round(1.05 * used), async () => {
    const reply = await shopper.placeOrder(cart, later);
    expect(refusalOf(reply)).toBe('503 backlog_full');
    expect(reply.headers.get('retry-after')).toBe('5');
    expect(await api.stores.saleStock.read(saleId)).toEqual(before);

    expect(orderOf(await shopper.placeOrder(cart, earlier)).orderNo).toBe(accepted.orderNo);
    const tooMany = { saleId, items: [{ sku: 'mug', quantity: 6 }] };
    expect(refusalOf(await shopper.placeOrder(tooMany))).toBe('409 sold_out');
  });

  expect((await shopper.placeOrder(cart, later)).status).toBe(202);
});

test('at maxmemory orders that were accepted are read, paid and cancelled', async () => {
  const { saleId } = await api.stores.openSale(buildSale());
  const shopper = await api.shopper();
  const [toPay, toCancel] = [await shopper.buy(saleId), await shopper.buy(saleId)];
  await api.store(toPay);

  await withFullMemory(async () => {
    await pressPay(sessionOf(await shopper.pay(toPay)).url);
    await waitFor('the payment', async () => (await shopper.readOrder(toPay)).status === 'paid');
    expect(orderOf(await shopper.cancel(toCancel))).toMatchObject({ reason: 'shopper_request' });
  });
});
