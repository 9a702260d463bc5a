/** A payment is committed and answered although Redis or Temporal hangs: they learn of it later. */

import { Client, Connection } from '@temporalio/client';
import { expect, inject, onTestFinished, test } from 'vitest';
import { createOrderEngine } from '../../../src/engine/order-engine.ts';
import { TOOL_WAITS } from '../../../src/limits.ts';
import { openStores } from '../../../src/stores/open.ts';
import { openTcpProxy } from '../../../stack/servers/tcp-proxy.ts';
import { buildSale } from '../../support/factories.ts';
import { openHttpApp } from '../../support/http-app.ts';
import { startPrivateRedis } from '../../support/private-redis.ts';
import { selectOne } from '../../support/rows.ts';
import { silent } from '../../support/stores.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { paidNotice, sendNotice } from './signed-notice.ts';

const PAID = { status: 'paid', payment: 'applied', version: 2 };

/** No command fails because Redis is frozen: who waits for one waits until it is thawed. */
const PATIENT = { ...TOOL_WAITS, redis: { connectMs: 10_000, commandMs: 150_000, silentMs: 160_000 } };

async function buyStored(api: TestApi): Promise<string> {
  const { saleId } = await api.stores.openSale(buildSale());
  const orderNo = await (await api.shopper()).buy(saleId);
  await api.store(orderNo, 'started');
  return orderNo;
}

const read = async (api: TestApi, orderNo: string) => (await api.stores.orders.read(orderNo))?.state;

test('a notice that comes while Redis is frozen is answered, and Redis has the end once it is thawed', async () => {
  const redis = await startPrivateRedis();
  onTestFinished(() => redis.stop());
  const api = await openApi({ REDIS_URL: [redis.url] });
  const orderNo = await buyStored(api);
  const stores = await openStores(api.stores.config, silent, PATIENT);
  const app = await openHttpApp({ stores, engine: api.engine });
  onTestFinished(async () => {
    redis.thaw();
    await app.close();
    await stores.close();
  });
  redis.freeze();

  expect((await sendNotice(app.url, paidNotice(orderNo))).status).toBe(204);

  expect(await read(api, orderNo)).toMatchObject(PAID);
  redis.thaw();
  // It ends what it has begun.
  await app.close();
  expect((await api.stores.reservations.readOrder(orderNo))?.state).toMatchObject(PAID);
  expect(await dueOf(api, orderNo)).toMatchObject({ ended: 0 });
});

test('a notice that comes while Temporal is frozen is answered, and the signal stays due', async () => {
  const api = await openApi();
  const wire = await openTcpProxy(inject('temporalAddress'));
  const connection = await Connection.connect({ address: wire.address });
  const client = new Client({ connection, namespace: api.client.options.namespace });
  const engine = createOrderEngine(client, { callTimeoutMs: 150_000 });
  let isTold = false;
  const app = await openHttpApp({
    stores: api.stores,
    engine: {
      ...engine,
      signalEnded: (...given) => engine.signalEnded(...given).finally(() => (isTold = true)),
    },
  });
  onTestFinished(async () => {
    // Calls that hang are made anew.
    wire.cut();
    wire.mend();
    await app.close();
    await connection.close();
    await wire.close();
  });
  const orderNo = await buyStored(api);
  wire.freeze();

  expect((await sendNotice(app.url, paidNotice(orderNo))).status).toBe(204);

  expect(await read(api, orderNo)).toMatchObject(PAID);
  const { userId } = (await api.stores.orders.read(orderNo))?.order ?? {};
  expect(await (await app.shopper(userId)).awaitStatus(orderNo, 'paid')).toMatchObject(PAID);
  expect(isTold).toBe(false);
  expect(await dueOf(api, orderNo)).toMatchObject({ signal: 1 });
});

/** Whether Redis is to follow, and whether the workflow is to be signalled. */
const dueOf = (api: TestApi, orderNo: string) =>
  selectOne(
    api.stores.pool,
    'SELECT end_due_at IS NOT NULL AS ended, engine_due_at IS NOT NULL AS `signal` FROM orders WHERE order_no = ?',
    [orderNo],
  );
