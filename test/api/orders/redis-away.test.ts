/** The API while its Redis is gone: what still works, and what callers get instead. */

import { ulid } from 'ulidx';
import { expect, onTestFinished, test } from 'vitest';
import { buildSale } from '../../support/factories.ts';
import { startPrivateRedis, type PrivateRedis } from '../../support/private-redis.ts';
import { orderOf, refusalOf, send } from '../../support/shopper.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, type TestApi } from '../open-api.ts';

/** An API on a Redis of its own, which the test may stop. */
async function openOnPrivateRedis(): Promise<{ api: TestApi; redis: PrivateRedis }> {
  const redis = await startPrivateRedis();
  onTestFinished(() => redis.stop());
  const api = await openApi({ REDIS_URL: [redis.url] });
  return { api, redis };
}

/** Stopped, and noticed by the client. */
async function stop(redis: PrivateRedis, api: TestApi): Promise<void> {
  await redis.stop();
  await waitFor('the client to notice', () => api.stores.redis.status !== 'ready');
}

test('without Redis an order gets 503 and the advice to repeat with the same key', async () => {
  const { api, redis } = await openOnPrivateRedis();
  const { saleId } = await api.stores.openSale(buildSale());
  const shopper = await api.shopper();
  await stop(redis, api);

  const reply = await shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 1 }] });

  expect(refusalOf(reply)).toBe('503 outcome_unknown');
  expect(reply.headers.get('retry-after')).toBe('1');
  expect(refusalOf(await send(`${api.url}/v1/sales/${saleId}`, 'GET'))).toBe('503 sale_unavailable');
});

test('a request whose answer was lost is answered by its repeat, with one order', async () => {
  const { api } = await openOnPrivateRedis();
  const { saleId } = await api.stores.openSale(buildSale());
  // The script runs, its answer does not arrive.
  const reserve: TestApi['stores']['reservations']['reserve'] = async (request) => {
    await api.stores.reservations.reserve(request);
    throw new Error('Command timed out');
  };
  const deaf = await api.withParts({ reservations: { ...api.stores.reservations, reserve } });
  const key = { 'idempotency-key': ulid() };
  const cart = { saleId, items: [{ sku: 'lamp', quantity: 2 }] };

  const lost = await (await deaf.shopper('ada')).placeOrder(cart, key);
  const repeated = await (await api.shopper('ada')).placeOrder(cart, key);

  expect(refusalOf(lost)).toBe('503 outcome_unknown');
  expect(repeated.status).toBe(200);
  expect(orderOf(repeated)).toMatchObject({ status: 'queued', total: 9_800 });
  expect((await api.stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ available: 8, held: 2 });
});

test('without Redis a stored order is read, cancelled and paid from MySQL', async () => {
  const { api, redis } = await openOnPrivateRedis();
  const { saleId } = await api.stores.openSale(buildSale());
  const shopper = await api.shopper();
  const [toPay, toCancel] = [await shopper.buy(saleId), await shopper.buy(saleId)];
  await api.store(toPay);
  await api.store(toCancel);
  await stop(redis, api);

  expect(await shopper.readOrder(toPay)).toMatchObject({ status: 'awaiting_payment', version: 1 });
  expect((await shopper.pay(toPay)).status).toBe(201);
  expect(orderOf(await shopper.cancel(toCancel))).toMatchObject({ reason: 'shopper_request' });
});

test('without Redis an order that may be queued there is not said to be missing', async () => {
  const { api, redis } = await openOnPrivateRedis();
  const { saleId } = await api.stores.openSale(buildSale());
  const shopper = await api.shopper();
  const orderNo = await shopper.buy(saleId);
  await stop(redis, api);

  expect(refusalOf(await shopper.getOrder(orderNo))).toBe('503 status_unavailable');
});

test('without Redis the process lives and is not ready', async () => {
  const { api, redis } = await openOnPrivateRedis();
  await stop(redis, api);

  const ready = await send(`${api.url}/readyz`, 'GET');

  expect((await send(`${api.url}/healthz`, 'GET')).status).toBe(200);
  expect(ready).toMatchObject({ status: 503, body: { status: 'not_ready', redis: 'down', mysql: 'up' } });
});
