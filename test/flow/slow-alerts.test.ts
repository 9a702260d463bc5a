/**
 * A real Prometheus, by the alerts as they are: each fault of a sale fires its own, within the time that its
 * rule names. Those of workers and stores that are away are in `alerts.test.ts`.
 */

import { afterEach, expect, inject, test } from 'vitest';
import { signToken } from '../../src/api/http/auth.ts';
import { createSecret } from '../../src/push/deliverer.ts';
import { DRIFT_KEY } from '../../src/redis/keys.ts';
import { startWorker } from '../../stack/app.ts';
import { locateServers } from '../../stack/install/server-packages.ts';
import type { Processes } from '../../stack/processes/processes.ts';
import { mysqlPackage, startMysql } from '../../stack/servers/mysql.ts';
import { harmlessNotice, sendNotice } from '../api/webhooks/signed-notice.ts';
import { buildSale } from '../support/factories.ts';
import { pay } from '../support/payment-notices.ts';
import { JWT_SECRET, openShopper, send } from '../support/shopper.ts';
import { openTcpProxy } from '../support/tcp-proxy.ts';
import { openTestProcesses } from '../support/test-processes.ts';
import { waitFor } from '../support/wait.ts';
import { openWatchedShop } from '../support/watched-shop.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});
const onClose = (close: () => Promise<void>): void => void closers.push(close);

/** The longest rule looks at five minutes, and a busy machine takes longer for each part of it. */
const SLOW_MS = 8 * 60_000;
/** Bounds a hang. */
const ALL_WITHIN_MS = 20 * 60_000;

async function startOwnMysql(processes: Processes): Promise<string> {
  const [found] = await locateServers([mysqlPackage], () => {});
  if (!found) throw new Error('MySQL was asked for');
  return startMysql({ processes, found, fresh: true, durable: false });
}

test(
  'whatever fails, waits or is lost in a sale fires its own alert',
  async () => {
    const { processes: servers, close } = await openTestProcesses((crash) =>
      expect.unreachable(crash.message),
    );
    onClose(close);
    const temporal = await openTcpProxy(inject('temporalAddress'));
    onClose(() => temporal.close());
    const shop = await openWatchedShop({
      onClose,
      mysqlUrl: await startOwnMysql(servers),
      // A run repairs the drift that it finds, and shows it until the next: for several scrapes.
      env: { TEMPORAL_ADDRESS: temporal.address, RECONCILE_EVERY_SECONDS: '20' },
    });
    const { stores, redis, processes, apiUrl } = shop;
    const { saleId } = await stores.openSale(buildSale());
    const shopper = async () => openShopper(apiUrl);
    const buy = async (of = saleId) => {
      const buyer = await shopper();
      const orderNo = await buyer.buy(of);
      await buyer.awaitStatus(orderNo, 'awaiting_payment');
      const stored = await stores.orders.read(orderNo);
      if (!stored) throw new Error('an order that awaits its payment is stored');
      return { buyer, orderNo, order: stored.order };
    };
    const refund = async (orderNo: string) => {
      const token = await signToken(JWT_SECRET, 'olga', '1h', { roles: ['admin'] });
      const headers = { authorization: `Bearer ${token}`, 'idempotency-key': 'once' };
      const path = `${apiUrl}/v1/admin/orders/${orderNo}/refunds`;
      expect((await send(path, 'POST', { headers, body: {} })).status).toBe(202);
    };
    const paid = async () => {
      const bought = await buy();
      await pay(stores, bought.order);
      await bought.buyer.awaitStatus(bought.orderNo, 'paid');
      return bought;
    };

    // With all parts at work. The provider is away, so that a refund's step fails.
    const [toRefund, toRefundLater] = [await paid(), await paid()];
    const terms = { url: 'http://127.0.0.1:1/', types: null, saleId: null, description: '' };
    await stores.endpoints.put('office', terms, createSecret(), 'olga');
    await refund(toRefund.orderNo);
    await pay(stores, (await buy()).order, { amount: 1 });
    const forged = { secret: `whsec_${Buffer.from('a-secret-of-nobody').toString('base64')}` };
    expect((await sendNotice(apiUrl, harmlessNotice(), forged)).status).toBe(401);
    const { saleId: smaller } = await stores.openSale(buildSale());
    await stores.pool.query('UPDATE skus SET total = 0 WHERE sale_id = ?', [smaller]);
    const refused = await shopper();
    await refused.awaitStatus(await refused.buy(smaller), 'failed');
    let sinceMs = Date.now();
    const pushWaits = shop.fires('HoldfastPushWaiting', sinceMs, SLOW_MS);
    await Promise.all(
      [
        'HoldfastNoticesRefused',
        'HoldfastParked',
        'HoldfastOrdersFailed',
        'HoldfastDrift',
        'HoldfastStepsFailing',
      ].map((alert) => shop.fires(alert, sinceMs, SLOW_MS)),
    );

    // Without Temporal no payment reaches its order, no refund begins, and no sale is compared.
    const toPay = await buy();
    temporal.cut();
    sinceMs = Date.now();
    await refund(toRefundLater.orderNo);
    await pay(stores, toPay.order);
    // As if three minutes had passed, and five since the last look.
    await stores.pool.query(
      'UPDATE payments SET received_at = received_at - INTERVAL 3 MINUTE WHERE order_no = ?',
      [toPay.orderNo],
    );
    await stores.driftBoard.publish({ lookedAtMs: sinceMs - 5 * 60_000, entries: [] });
    await Promise.all(
      [
        'HoldfastStoreAway temporal',
        'HoldfastPaymentsWaiting',
        'HoldfastDriftNotCompared',
        'HoldfastRefundsDue',
      ].map((alert) => shop.fires(alert, sinceMs, SLOW_MS)),
    );
    await pushWaits;

    // What a gauge shows cannot be read, and a worker tells of a loop that stands still.
    await stores.redis.set(DRIFT_KEY, 'no JSON');
    sinceMs = Date.now();
    const beat = { workerId: 'w', host: 'h', pid: 1, build: '', url: '', hanging: ['relay'] };
    const hanging = shop.fires('HoldfastWorkerHanging', sinceMs);
    const beating = waitFor('the beats', async () => {
      await stores.redisStatus.beat(beat);
      return (await shop.firing()).includes('HoldfastWorkerHanging');
    });
    await Promise.all([hanging, beating, shop.fires('HoldfastStatusUnread', sinceMs)]);
    await stores.redisStatus.leave('w');
    temporal.mend();

    // An order is accepted, and Redis loses it before it is stored.
    await processes.stop('worker');
    const robbed = await shopper();
    const lost = await robbed.buy(saleId);
    await stores.redis.flushall();
    await startWorker(processes, { name: 'worker', env: shop.env });
    await waitFor('the loss to be told', async () => {
      const reply = await robbed.getOrder(lost);
      return reply.status === 200;
    });
    await shop.fires('HoldfastOrdersLost');

    servers.freeze('mysql');
    try {
      sinceMs = Date.now();
      const calls = waitFor(
        'calls that fail',
        async () => {
          await toPay.buyer.pay(toPay.orderNo);
          return (await shop.firing()).includes('HoldfastCallsFailing');
        },
        SLOW_MS,
      );
      await Promise.all([
        calls,
        ...['HoldfastStoreAway mysql', 'HoldfastCallsFailing', 'HoldfastStoreErrors mysql'].map((alert) =>
          shop.fires(alert, sinceMs, SLOW_MS),
        ),
      ]);
    } finally {
      servers.thaw('mysql');
    }

    redis.freeze();
    try {
      sinceMs = Date.now();
      const buyer = await shopper();
      const items = [{ sku: 'mug', quantity: 1 }];
      const purchases = waitFor(
        'purchases that fail',
        async () => {
          await buyer.placeOrder({ saleId, items });
          return (await shop.firing()).includes('HoldfastPurchasesFailing');
        },
        SLOW_MS,
      );
      await Promise.all([purchases, shop.fires('HoldfastPurchasesFailing', sinceMs)]);
    } finally {
      redis.thaw();
    }

    await processes.stop('api');
    await shop.fires('HoldfastNotScraped');
  },
  ALL_WITHIN_MS,
);
