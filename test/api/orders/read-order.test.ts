/**
 * Reading an order from the projection, MySQL or the workflow, without ever going back to an older version.
 */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { buildSale } from '../../support/factories.ts';
import { pay } from '../../support/payment-notices.ts';
import { orderOf, refusalOf, type Shopper } from '../../support/shopper.ts';
import { openEngineAway } from '../../support/workflows/engines.ts';
import { openApi, openMysqlAway, type TestApi } from '../open-api.ts';

let api: TestApi;
let saleId: string;
let shopper: Shopper;

beforeAll(async () => {
  api = await openApi();
  ({ saleId } = await api.stores.openSale(buildSale({ skus: [lamps] })));
  shopper = await api.shopper();
});

const lamps = { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100, limitPerUser: null };

test('a queued order is read from the projection, with when to ask again', async () => {
  const orderNo = await shopper.buy(saleId);

  const order = await shopper.readOrder(orderNo);

  expect(order).toMatchObject({ orderNo, saleId, status: 'queued', version: 0, pollAfterMs: 1_000 });
  expect(order.items).toEqual([{ sku: 'lamp', quantity: 1, unitPrice: 4_900 }]);
});

test('a status is kept by no cache', async () => {
  const reply = await shopper.getOrder(await shopper.buy(saleId));

  expect(reply.headers.get('cache-control')).toBe('no-store');
});

test('asking with the known version answers 304 until the version changes', async () => {
  const orderNo = await shopper.buy(saleId);
  const etag = (await shopper.getOrder(orderNo)).headers.get('etag') ?? '';

  const unchanged = await shopper.getOrder(orderNo, { 'if-none-match': etag });
  await api.store(orderNo);
  const changed = await shopper.getOrder(orderNo, { 'if-none-match': etag });

  expect(etag).toBe('"0"');
  expect(unchanged).toMatchObject({ status: 304, body: '' });
  expect(changed.status).toBe(200);
  expect(changed.headers.get('etag')).toBe('"1"');
});

test('a wish to cancel that is not stored yet is news to a caller that knows the queued order', async () => {
  const orderNo = await shopper.buy(saleId);
  const etag = (await shopper.getOrder(orderNo)).headers.get('etag') ?? '';
  await api.stores.reservations.wishCancel(orderNo, 'shopper_request');

  const changed = await shopper.getOrder(orderNo, { 'if-none-match': etag });

  expect(orderOf(changed)).toMatchObject({ status: 'queued', version: 0, closing: true });
  const known = { 'if-none-match': changed.headers.get('etag') ?? '' };
  expect((await shopper.getOrder(orderNo, known)).status).toBe(304);
  await api.store(orderNo);
  expect((await shopper.getOrder(orderNo, known)).status).toBe(200);
});

test('If-None-Match: * answers 304 for an order that exists, and 404 for one that does not', async () => {
  const orderNo = await shopper.buy(saleId);
  const any = { 'if-none-match': '*' };

  expect(await shopper.getOrder(orderNo, any)).toMatchObject({ status: 304, body: '' });
  await api.forget(orderNo);
  expect(refusalOf(await shopper.getOrder(orderNo, any))).toBe('404 order_not_found');
});

test('an order whose projection is gone is read from MySQL, the same in every field', async () => {
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);
  const projected = await shopper.readOrder(orderNo);

  await api.forget(orderNo);

  expect(await shopper.readOrder(orderNo)).toEqual(projected);
  expect(projected).toMatchObject({ status: 'awaiting_payment', version: 1, pollAfterMs: 2_000 });
});

test('an order that neither store has is not found', async () => {
  const orderNo = await shopper.buy(saleId);
  await api.forget(orderNo);

  expect(refusalOf(await shopper.getOrder(orderNo))).toBe('404 order_not_found');
});

test('while MySQL is away, orders are still read from the projection', async () => {
  const { pool, ...parts } = await openMysqlAway();
  const app = await api.withParts({ pool, ...parts });
  onTestFinished(async () => {
    await app.close();
    await pool.end();
  });
  const buyer = await app.shopper();
  const orderNo = await buyer.buy(saleId);
  expect((await buyer.getOrder(orderNo)).status).toBe(200);
  await api.forget(orderNo);
  const reply = await buyer.getOrder(orderNo);
  expect(refusalOf(reply)).toBe('503 status_unavailable');
  expect(reply.headers.get('retry-after')).toBe('1');
});

test('the workflow is asked, and MySQL answers when no worker does', async () => {
  const orderNo = await shopper.buy(saleId);
  const stored = await api.stores.reservations.readOrder(orderNo);
  if (!stored) throw new Error('the order was accepted');
  await api.engine.signalCancelRequested(stored.order);
  // Stored, and not yet projected: only MySQL knows.
  await api.stores.orders.storeOrder(stored.order, 'started');

  const reply = await shopper.getOrder(`${orderNo}?source=workflow`);

  expect(orderOf(reply)).toMatchObject({ status: 'awaiting_payment', version: 1, source: 'database' });
  // What is answered is projected first, so that no later answer is older.
  expect(await shopper.readOrder(orderNo)).toMatchObject({ status: 'awaiting_payment', version: 1 });
});

test('a caller that knows a newer version than the projection gets what MySQL has', async () => {
  const orderNo = await shopper.buy(saleId);
  const accepted = await api.stores.reservations.readOrder(orderNo);
  if (!accepted) throw new Error('the order was accepted');
  // As after a time without Redis: MySQL has gone on, and the projection has not.
  await api.stores.orders.storeOrder(accepted.order, 'due');

  const unaware = await shopper.getOrder(orderNo);
  const aware = await shopper.getOrder(orderNo, { 'if-none-match': '"0", W/"1"' });
  const fromTheFuture = await shopper.getOrder(orderNo, { 'if-none-match': '"7"' });

  expect(orderOf(unaware)).toMatchObject({ status: 'queued', version: 0 });
  expect(aware.status).toBe(304);
  expect(orderOf(fromTheFuture)).toMatchObject({ status: 'awaiting_payment', version: 1 });
  expect(await shopper.readOrder(orderNo)).toMatchObject({ version: 1 });
});

test('an order whose workflow has not begun is answered from the projection', async () => {
  const orderNo = await shopper.buy(saleId);

  const reply = await shopper.getOrder(`${orderNo}?source=workflow`);

  expect(orderOf(reply)).toMatchObject({ orderNo, status: 'queued', source: 'projection' });
});

test('while Temporal is away, asking the workflow answers what MySQL says', async () => {
  const away = await openEngineAway();
  const app = await api.withParts({ engine: away.engine });
  onTestFinished(async () => {
    await app.close();
    await away.close();
  });
  const buyer = await app.shopper();
  const orderNo = await buyer.buy(saleId);
  await api.store(orderNo);

  const reply = await buyer.getOrder(`${orderNo}?source=workflow`);

  expect(orderOf(reply)).toMatchObject({ status: 'awaiting_payment', version: 1, source: 'database' });
});

test('a workflow that answers is named as the source, and only where it was asked', async () => {
  const ahead = { status: 'paid', version: 2, payment: 'applied', reason: null } as const;
  const engine = { ...api.engine, queryStatus: () => Promise.resolve(ahead) };
  const app = await api.withParts({ engine });
  const buyer = await app.shopper();
  const orderNo = await buyer.buy(saleId);
  await api.store(orderNo);

  const asked = await buyer.getOrder(`${orderNo}?source=workflow`);

  expect(orderOf(asked)).toMatchObject({ ...ahead, source: 'workflow' });
  expect(orderOf(await buyer.getOrder(orderNo))).not.toHaveProperty('source');
});

test('while Temporal and MySQL are away, asking the workflow answers the projection and says so', async () => {
  const away = await openEngineAway();
  const { pool, ...parts } = await openMysqlAway();
  const app = await api.withParts({ pool, ...parts, engine: away.engine });
  onTestFinished(async () => {
    await app.close();
    await away.close();
    await pool.end();
  });
  const buyer = await app.shopper();
  const orderNo = await buyer.buy(saleId);

  const reply = await buyer.getOrder(`${orderNo}?source=workflow`);

  expect(orderOf(reply)).toMatchObject({ status: 'queued', source: 'projection' });
});

test('a workflow that is behind what is committed turns no status back', async () => {
  const behind = { status: 'queued', version: 0, payment: 'none', reason: null } as const;
  const engine = { ...api.engine, queryStatus: () => Promise.resolve(behind) };
  const app = await api.withParts({ engine });
  const buyer = await app.shopper();
  const orderNo = await buyer.buy(saleId);
  await api.store(orderNo);

  const reply = await buyer.getOrder(`${orderNo}?source=workflow`);

  expect(orderOf(reply)).toMatchObject({ status: 'awaiting_payment', version: 1, source: 'database' });
});

test('an order that is paid while its workflow is behind is answered as MySQL has it', async () => {
  const behind = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null } as const;
  const engine = { ...api.engine, queryStatus: () => Promise.resolve(behind) };
  const app = await api.withParts({ engine });
  const buyer = await app.shopper();
  const orderNo = await buyer.buy(saleId);
  await api.store(orderNo, 'started');
  const stored = await api.stores.orders.read(orderNo);
  if (!stored) throw new Error('it was stored');
  // Not yet projected: Redis is behind, too.
  await pay(api.stores, stored.order);

  const reply = await buyer.getOrder(`${orderNo}?source=workflow`);

  const paid = { status: 'paid', version: 2, payment: 'applied' };
  expect(orderOf(reply)).toMatchObject({ ...paid, source: 'database' });
  expect(await buyer.readOrder(orderNo)).toMatchObject(paid);
});

test('an unknown source is refused', async () => {
  const orderNo = await shopper.buy(saleId);

  expect(refusalOf(await shopper.getOrder(`${orderNo}?source=crystal-ball`))).toBe('400 invalid_request');
});
