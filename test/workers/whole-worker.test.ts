/**
 * Worker and relay together, beside an API that cannot reach Temporal: they finish what it could not start.
 */

import { ulid } from 'ulidx';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import type { StoreConfig } from '../../src/stores/open.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildSale } from '../support/factories.ts';
import { openHttpApp } from '../support/http-app.ts';
import { pressPay, sessionOf } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { openTestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';
import { openEngineAway } from '../support/workflows/engines.ts';
import { awaitStart, describeIfStarted } from '../support/workflows/start.ts';
import { createNamespace } from '../support/workflows/temporal.ts';
import { startWorker } from '../support/workflows/worker.ts';

let namespace: string;

beforeAll(async () => {
  namespace = await createNamespace();
});

/** An API whose way to Temporal is cut, and its worker when the test wants it. */
async function openHalf(config: Partial<StoreConfig> = {}) {
  const stores = await openTestStores(config);
  const away = await openEngineAway();
  onTestFinished(() => away.close());
  const app = await openHttpApp({ stores, engine: away.engine });
  const { saleId } = await stores.openSale(buildSale());
  return {
    app,
    stores,
    saleId,
    async startWorker(replaced: Partial<typeof stores> = {}) {
      const worker = await startWorker({
        stores: { ...stores, ...replaced },
        provider: app.provider,
        namespace,
      });
      onTestFinished(() => worker.stop());
      return worker;
    },
  };
}

test('a payment that the API could not signal is signalled by the relay', async () => {
  const { app, stores, saleId, ...half } = await openHalf();
  const { client } = await half.startWorker();
  const shopper = await app.shopper();
  const orderNo = await shopper.buy(saleId);
  await awaitStart(client, orderNo);

  await pressPay(sessionOf(await shopper.pay(orderNo)).url);

  await shopper.awaitStatus(orderNo, 'paid');
  expect(await client.workflow.getHandle(orderNo).result()).toMatchObject({ status: 'paid' });
  await expectStock(stores, saleId, { sku: 'lamp', available: 9, held: 0, sold: 1 });
});

test('a wish to cancel that the API could not signal is signalled by the relay', async () => {
  const { app, stores, saleId, ...half } = await openHalf();
  await half.startWorker();
  const shopper = await app.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');

  expect((await shopper.cancel(orderNo)).status).toBe(202);

  await shopper.awaitStatus(orderNo, 'cancelled');
  await expectStock(stores, saleId, { sku: 'lamp', available: 10, held: 0, sold: 0 });
});

test('an order cancelled before any worker came is cancelled by the first that comes', async () => {
  const { app, stores, saleId, ...half } = await openHalf();
  const shopper = await app.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.cancel(orderNo);

  await half.startWorker();

  await shopper.awaitStatus(orderNo, 'cancelled');
  await expectStock(stores, saleId, { sku: 'lamp', available: 10, held: 0, sold: 0 });
});

test('an order that was stored ahead and paid before any worker came needs no workflow', async () => {
  const { app, stores, saleId, ...half } = await openHalf();
  const shopper = await app.shopper();
  const orderNo = await shopper.buy(saleId);
  const reserved = await stores.reservations.readOrder(orderNo);
  await stores.orders.storeOrders(reserved ? [reserved.order] : [], 'due');
  await pressPay(sessionOf(await shopper.pay(orderNo)).url);
  await shopper.awaitStatus(orderNo, 'paid');

  const { client } = await half.startWorker();

  await waitFor('the outbox to be finished', async () => {
    return (await stores.redis.xlen(`holdfast:{${saleId}.0}:outbox`)) === 0;
  });
  expect(await describeIfStarted(client, orderNo)).toBeUndefined();
  await expectStock(stores, saleId, { sku: 'lamp', available: 9, held: 0, sold: 1 });
});

test('an order that can never be stored is not acknowledged by storing ahead: it is started, fails, and gives its stock back', async () => {
  const { app, stores, saleId, ...half } = await openHalf({ ENGINE_BUDGET: 1 });
  const shopper = await app.shopper();
  const request = { userId: shopper.userId, idempotencyKey: ulid() };
  const first = await acceptOrder(stores, saleId, request);
  await stores.orders.storeOrder(first, 'started');
  // Redis forgets the key, so the same request is accepted once more.
  await stores.redis.del(`holdfast:{${saleId}.0}:idem:${request.userId}:${request.idempotencyKey}`);
  const second = await acceptOrder(stores, saleId, request);
  await stores.budget.acquire(['another-order']);
  let refusals = 0;
  const storeOrders: typeof stores.orders.storeOrders = async (...args) => {
    const outcomes = await stores.orders.storeOrders(...args);
    if (outcomes.get(second.orderNo)?.kind === 'refused') refusals += 1;
    return outcomes;
  };
  await half.startWorker({ orders: { ...stores.orders, storeOrders } });
  const outbox = `holdfast:{${saleId}.0}:outbox`;
  await waitFor('two refusals', () => refusals > 1);
  expect(await stores.redis.xlen(outbox)).toBe(1);

  await stores.budget.release(['another-order']);

  const failed = await shopper.awaitStatus(second.orderNo, 'failed');
  expect(failed.reason).toBe('duplicate_request');
  expect(await stores.redis.xlen(outbox)).toBe(0);
  await expectStock(stores, saleId, { sku: 'lamp', available: 9, held: 1, sold: 0 });
});

test('an order that MySQL has no stock for fails and gives its stock back to Redis', async () => {
  const { app, stores, saleId, ...half } = await openHalf();
  const shopper = await app.shopper();
  await stores.pool.query("UPDATE skus SET total = 0 WHERE sale_id = ? AND sku = 'lamp'", [saleId]);
  const orderNo = await shopper.buy(saleId);

  await half.startWorker();

  expect(await shopper.awaitStatus(orderNo, 'failed')).toMatchObject({ reason: 'stock_exhausted' });
  await waitFor('the unit in Redis', async () => {
    const sale = await stores.saleStock.read(saleId);
    return sale?.skus[0]?.available === 10 && sale.skus[0].held === 0;
  });
});
