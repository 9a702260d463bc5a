/**
 * A real Prometheus: each fault of a sale fires its own alert. The alerts are ten times as fast as in
 * production; `test/monitoring` proves their true times. Those of workers and stores that are away are in
 * `alerts.test.ts`.
 */

import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest';
import { signToken } from '../../src/api/http/auth.ts';
import { createSecret } from '../../src/push/deliverer.ts';
import { DRIFT_KEY } from '../../src/redis/keys.ts';
import { startWorker } from '../../stack/app.ts';
import { openTcpProxy, type TcpProxy } from '../../stack/servers/tcp-proxy.ts';
import { harmlessNotice, sendNotice } from '../api/webhooks/signed-notice.ts';
import { agePayment, ageRebuild } from '../support/ageing.ts';
import { closeLater } from '../support/close-later.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { pay } from '../support/payment-notices.ts';
import { repeat } from '../support/repeat.ts';
import { JWT_SECRET, openShopper, send } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';
import { ALERT_TIMEOUT_MS, openWatchedShop, type WatchedShop } from '../support/watched-shop.ts';

const timeout = { timeout: ALERT_TIMEOUT_MS };

let temporal: TcpProxy;
let shop: WatchedShop;
let saleId: string;

beforeAll(async () => {
  temporal = await openTcpProxy(inject('temporalAddress'));
  closeLater(() => temporal.close());
  shop = await openWatchedShop({
    onClose: closeLater,
    // A run repairs the drift that it finds, and shows it until the next: for several scrapes.
    env: { TEMPORAL_ADDRESS: temporal.address, RECONCILE_EVERY_SECONDS: '20' },
  });
  ({ saleId } = await shop.stores.openSale(buildSale()));
});

async function buy() {
  const buyer = await openShopper(shop.apiUrl);
  const orderNo = await buyer.buy(saleId);
  await buyer.awaitStatus(orderNo, 'awaiting_payment');
  const stored = await shop.stores.orders.read(orderNo);
  if (!stored) throw new Error('an order that awaits its payment is stored');
  return { buyer, orderNo, order: stored.order };
}

async function buyPaid() {
  const bought = await buy();
  await pay(shop.stores, bought.order);
  await bought.buyer.awaitStatus(bought.orderNo, 'paid');
  return bought;
}

async function refund(orderNo: string): Promise<void> {
  const token = await signToken(JWT_SECRET, 'olga', '1h', { roles: ['admin'] });
  const headers = { authorization: `Bearer ${token}`, 'idempotency-key': 'once' };
  const path = `${shop.apiUrl}/v1/admin/orders/${orderNo}/refunds`;
  expect((await send(path, 'POST', { headers, body: {} })).status).toBe(202);
}

describe('with all parts at work', () => {
  test('a notice of the provider that is not authentic fires an alert', timeout, async () => {
    const forged = { secret: `whsec_${Buffer.from('a-secret-of-nobody').toString('base64')}` };
    expect((await sendNotice(shop.apiUrl, harmlessNotice(), forged)).status).toBe(401);
    await shop.fires('HoldfastNoticesRefused');
  });

  test('money of a wrong amount, which is parked, fires an alert', timeout, async () => {
    await pay(shop.stores, (await buy()).order, { amount: 1 });
    await shop.fires('HoldfastParked');
  });

  test('an order that MySQL has no stock for fires an alert, and so does the drift', timeout, async () => {
    const { saleId: smaller } = await shop.stores.openSale(buildSale());
    await shop.stores.pool.query('UPDATE skus SET total = 0 WHERE sale_id = ?', [smaller]);
    const refused = await openShopper(shop.apiUrl);
    await refused.awaitStatus(await refused.buy(smaller), 'failed');
    await Promise.all([shop.fires('HoldfastOrdersFailed'), shop.fires('HoldfastDrift')]);
  });

  test('a refund that the provider does not take fires an alert of its step', timeout, async () => {
    await refund((await buyPaid()).orderNo);
    await shop.fires('HoldfastStepsFailing');
  });

  test('an endpoint of the shop that is away fires an alert', timeout, async () => {
    const terms = { url: 'http://127.0.0.1:1/', types: null, saleId: null, description: '' };
    await shop.stores.endpoints.put('office', terms, createSecret(), 'olga');
    await buy();
    await shop.fires('HoldfastPushWaiting');
  });
});

/** Nothing is decided about a payment whose order is not stored, no refund begins, no sale is compared. */
describe('without Temporal', () => {
  beforeAll(async () => {
    const [unknown, toRefund] = [buildOrder({ saleId }), await buyPaid()];
    temporal.cut();
    await refund(toRefund.orderNo);
    await pay(shop.stores, unknown);
    await agePayment(shop.stores.pool, unknown.orderNo, 180);
    await shop.stores.driftBoard.publish({ lookedAtMs: Date.now() - 5 * 60_000, entries: [] });
  });
  afterAll(() => temporal.mend());

  test.each([
    'HoldfastStoreAway temporal',
    'HoldfastPaymentsWaiting',
    'HoldfastDriftNotCompared',
    'HoldfastRefundsDue',
  ])('%s fires', timeout, (alert) => shop.fires(alert));

  test('a gauge that cannot be read fires an alert', timeout, async () => {
    // No run of the reconciliation writes it anew.
    await shop.stores.redis.set(DRIFT_KEY, 'no JSON');
    await shop.fires('HoldfastStatusUnread');
  });
});

test('a worker with a loop that stands still fires an alert', timeout, async () => {
  const { redisStatus } = shop.stores;
  const beat = { workerId: 'w', host: 'h', pid: 1, build: '', upMs: 1, url: '', hanging: ['relay'] };
  const stop = repeat(() => redisStatus.beat(beat));
  onTestFinished(stop);
  await shop.fires('HoldfastWorkerHanging');
  await stop();
  await redisStatus.leave('w');
});

test('an accepted order that Redis loses before it is stored fires an alert', timeout, async () => {
  const { stores, processes, env, apiUrl } = shop;
  await processes.stop('worker');
  const robbed = await openShopper(apiUrl);
  const lost = await robbed.buy(saleId);
  await stores.redis.flushall();
  await startWorker(processes, { name: 'worker', env });
  await waitFor('the sale to be there again', async () => (await ageRebuild(stores.pool, saleId)) > 0);
  await waitFor('the loss to be told', async () => (await robbed.getOrder(lost)).status === 200);
  await shop.fires('HoldfastOrdersLost');
});
