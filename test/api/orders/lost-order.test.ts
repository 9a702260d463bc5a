/** The answers to a shopper while Redis has lost a sale, and about an order that was lost with it. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { formatOrderNo, parseOrderNo, type OrderNoParts } from '../../../src/orders/order.ts';
import { rebuildSale } from '../../../src/reconcile/rebuild-sale.ts';
import { saleKeys } from '../../../src/redis/keys.ts';
import { openEvents } from '../../support/event-stream.ts';
import { buildOrder, buildSale } from '../../support/factories.ts';
import { orderOf, problemOf, refusalOf, send } from '../../support/shopper.ts';
import { silent } from '../../support/stores.ts';
import { waitFor } from '../../support/wait.ts';
import { openEngineAway } from '../../support/workflows/engines.ts';
import { scrape, scrapeCounter } from '../metrics.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { openTestLog } from '../test-log.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openApi();
});

/** Redis loses all of the sale. */
async function lose(saleId: string): Promise<void> {
  const keys = await api.stores.redis.keys(`holdfast:{${saleId}.0}:*`);
  await api.stores.redis.del(...keys);
}

/** Long ago, as far as MySQL knows: no relay brings an order back any more. */
async function rebuild(saleId: string): Promise<void> {
  await rebuildSale({ ...api.stores, log: silent }, saleId, { cause: 'lost' });
  await api.stores.pool.query('UPDATE sales SET rebuilt_at = NOW(3) - INTERVAL 1 HOUR WHERE sale_id = ?', [
    saleId,
  ]);
}

/** An order that was accepted, and lost with its sale before it was stored. */
async function loseOrder() {
  const { saleId } = await api.stores.openSale(buildSale());
  const shopper = await api.shopper();
  const orderNo = await shopper.buy(saleId);
  await lose(saleId);
  return { saleId, shopper, orderNo };
}

const lostOrders = async () => (await scrape(api.url)).get('holdfast_lost_orders_total');

test('while Redis has lost a sale that this process knows, it is paused and not unknown', async () => {
  const { saleId, shopper } = await loseOrder();

  const body = { saleId, items: [{ sku: 'lamp', quantity: 1 }] };
  const reply = await shopper.placeOrder(body);
  expect(refusalOf(reply)).toBe('403 sale_paused');
  expect(reply.headers.get('retry-after')).not.toBeNull();

  await rebuild(saleId);
  expect((await shopper.placeOrder(body)).status).toBe(202);
});

test('until its sale is made again nothing is said about a lost order', async () => {
  const { saleId, shopper, orderNo } = await loseOrder();

  expect(refusalOf(await shopper.getOrder(orderNo))).toBe('503 status_unavailable');
  await rebuild(saleId);
  await api.stores.pool.query('UPDATE sales SET rebuilt_at = NOW(3) WHERE sale_id = ?', [saleId]);
  expect(refusalOf(await shopper.getOrder(orderNo))).toBe('503 status_unavailable');
});

test('an order that was lost before it was stored is answered as failed, and counted once', async () => {
  const { saleId, shopper, orderNo } = await loseOrder();
  await rebuild(saleId);
  const before = (await lostOrders()) ?? 0;

  const lost = {
    orderNo,
    saleId,
    status: 'failed',
    reason: 'lost_before_stored',
    version: 1,
    items: [],
    total: 0,
  };
  const reply = await shopper.getOrder(orderNo);
  expect(orderOf(reply)).toMatchObject({ ...lost, currency: 'EUR', pollAfterMs: null, closing: false });
  expect(reply.headers.get('etag')).toBe('"1-lost_before_stored"');
  // Also to whom knows it as stored: MySQL may have had it, and lost it with its last commits.
  const headers = { authorization: shopper.authorization, 'if-none-match': '"1"' };
  const polled = await send(`${api.url}/v1/orders/${orderNo}?wait=25`, 'GET', { headers });
  expect(orderOf(polled)).toMatchObject(lost);
  const stream = await openEvents(api.url, orderNo, {
    authorization: shopper.authorization,
    'last-event-id': '1',
  });
  expect(await stream.next()).toMatchObject(lost);
  expect(orderOf(await shopper.cancel(orderNo))).toMatchObject(lost);
  const refused = await shopper.pay(orderNo);
  expect(refusalOf(refused)).toBe('409 not_payable');
  expect(problemOf(refused)['order']).toMatchObject(lost);
  expect(await lostOrders()).toBe(before + 1);
});

test('while Temporal cannot be asked an order is not said to be lost', async () => {
  const { saleId, orderNo } = await loseOrder();
  await rebuild(saleId);
  const away = await openEngineAway();
  const app = await api.withParts({ engine: away.engine });
  onTestFinished(async () => {
    await app.close();
    await away.close();
  });
  expect(refusalOf(await (await app.shopper()).getOrder(orderNo))).toBe('503 status_unavailable');
});

test('an order whose workflow knows it is not said to be lost', async () => {
  const { saleId, orderNo } = await loseOrder();
  await rebuild(saleId);
  const queued = { status: 'queued', version: 0, payment: 'none', reason: null } as const;
  const engine = { ...api.engine, queryStatus: () => Promise.resolve(queued) };
  const app = await api.withParts({ engine });
  expect(refusalOf(await (await app.shopper()).getOrder(orderNo))).toBe('503 status_unavailable');
});

test('an order whose payment came although MySQL has lost it too is not said to be lost', async () => {
  const { saleId, shopper, orderNo } = await loseOrder();
  await rebuild(saleId);
  const payment = {
    providerPaymentId: `pay-${orderNo}`,
    orderNo,
    amount: 4_900,
    currency: 'EUR',
    signedOrder: null,
  };
  await api.stores.payments.record('sandbox', payment);
  expect(refusalOf(await shopper.getOrder(orderNo))).toBe('503 status_unavailable');

  const where = 'WHERE order_no = ?';
  await api.stores.pool.query(`UPDATE payments SET status = 'refunded' ${where}`, [orderNo]);
  expect(orderOf(await shopper.getOrder(orderNo))).toMatchObject({ reason: 'lost_before_stored' });
});

test('an order of the present epoch that no store has is not found, nor is one of an epoch to come', async () => {
  const { saleId, shopper } = await loseOrder();
  await rebuild(saleId);
  const { orderNo } = buildOrder({ saleId });
  for (const epoch of [2, 3]) {
    const other = orderNo.replace(`${saleId}-0-1-`, `${saleId}-0-${epoch}-`);
    expect(refusalOf(await shopper.getOrder(other))).toBe('404 order_not_found');
  }
  expect(refusalOf(await shopper.getOrder(buildOrder().orderNo))).toBe('404 order_not_found');
});

test('a projection of old data is not believed where MySQL knows better', async () => {
  const { saleId } = await api.stores.openSale(buildSale());
  const shopper = await api.shopper();
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);
  await api.stores.orders.cancel(orderNo, 'operator_request', { force: true });
  // As in a file of before the cancel: the projection is old, and the server another one.
  const keys = saleKeys({ saleId, shard: 0 });
  await api.stores.redis.hset(keys.sale, 'run_id', 'another');
  expect((await api.stores.reservations.readOrder(orderNo))?.state.status).toBe('awaiting_payment');

  expect(await shopper.readOrder(orderNo)).toMatchObject({ status: 'cancelled' });
});

/** A number like this order's, which nothing was ever accepted under. */
function invent(orderNo: string, parts: Partial<OrderNoParts>): string {
  const own = parseOrderNo(orderNo);
  if (!own) throw new Error('an order that was accepted has a number');
  return formatOrderNo({ ...own, ...parts });
}

test.each<[string, Partial<OrderNoParts>]>([
  ['epoch 0', { epoch: 0 }],
  ['an epoch to come', { epoch: 9 }],
  ['a shard that does not exist', { shard: 99 }],
  ['a time before the sale was there', { ulid: '01HKXW5N8G0000000000000000' }],
  ['a time to come', { ulid: '7ZZZZZZZZZ0000000000000000' }],
  ['no time at all', { ulid: 'ZZZZZZZZZZZZZZZZZZZZZZZZZZ' }],
])('a number that no order can have had, with %s, is not found and counts as no loss', async (_, parts) => {
  const { saleId, shopper, orderNo } = await loseOrder();
  await rebuild(saleId);
  const before = (await lostOrders()) ?? 0;

  const invented = invent(orderNo, parts);
  expect(refusalOf(await shopper.getOrder(invented))).toBe('404 order_not_found');
  expect(refusalOf(await shopper.cancel(invented))).toBe('404 order_not_found');
  expect(await lostOrders()).toBe(before);
});

test('what one shopper invents neither counts for long nor hides the loss of another', async () => {
  const { saleId, shopper, orderNo } = await loseOrder();
  await rebuild(saleId);
  const before = (await lostOrders()) ?? 0;
  const inventor = await api.shopper();

  for (let i = 0; i < 20; i += 1) {
    const ulid = `${orderNo.slice(-26, -4)}${String(1_000 + i)}`;
    await inventor.readOrder(invent(orderNo, { ulid }));
  }
  const invented = (await lostOrders()) ?? 0;
  expect(invented - before).toBeLessThanOrEqual(5);

  await shopper.readOrder(orderNo);
  expect(await lostOrders()).toBe(invented + 1);
});

test('while Temporal cannot be asked, however many ask is one line in the log, without a stack', async () => {
  const { saleId, shopper, orderNo } = await loseOrder();
  await rebuild(saleId);
  const { log, lines } = openTestLog();
  const away = await openEngineAway();
  const app = await api.withParts({ engine: away.engine, log });
  onTestFinished(async () => {
    await app.close();
    await away.close();
  });
  const caller = await app.shopper(shopper.userId);
  // At once: those of the next ten seconds are a second line.
  for (const reply of await Promise.all([1, 2, 3].map(() => caller.getOrder(orderNo))))
    expect(refusalOf(reply)).toBe('503 status_unavailable');
  expect(lines()).toHaveLength(1);
  expect(JSON.stringify(lines())).not.toContain('    at ');
});

test('while as many queries of Temporal are under way as may be, the next is not made', async () => {
  const { saleId, orderNo } = await loseOrder();
  await rebuild(saleId);
  let letGo = (): void => {};
  const gate = new Promise<undefined>((resolve) => {
    letGo = () => resolve(undefined);
  });
  let asked = 0;
  const engine = {
    ...api.engine,
    queryStatus: () => {
      asked += 1;
      return gate;
    },
  };
  const app = await api.withParts({ engine });
  onTestFinished(async () => {
    letGo();
    await app.close();
  });
  const caller = await app.shopper();
  const waiting = Array.from({ length: 16 }, () => caller.getOrder(orderNo));
  await waitFor('the queries', () => asked === 16);

  expect(refusalOf(await caller.getOrder(orderNo))).toBe('503 status_unavailable');
  const open = await caller.buy((await api.stores.openSale(buildSale())).saleId);
  expect(orderOf(await caller.getOrder(`${open}?source=workflow`))).toMatchObject({ source: 'projection' });
  expect((await scrapeCounter(app.url, 'holdfast_shed_total'))['queries']).toBe(2);
  expect(asked).toBe(16);
  letGo();
  expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual(waiting.map(() => 200));
});
