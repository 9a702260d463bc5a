/** Real stores with a feed of real events, workers that push, and endpoints of a shop. */

import { ulid } from 'ulidx';
import { onTestFinished } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { createSecret } from '../../src/push/deliverer.ts';
import type { Endpoint, EndpointTerms } from '../../src/push/endpoints.sql.ts';
import { createPusher, type PusherDeps } from '../../src/push/pusher.ts';
import { recordShopEvent } from '../../src/sales/rows.sql.ts';
import { runLoop } from '../../src/workers/loop.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { openReceiver, type Receiver, type Respond } from '../support/receiver.ts';
import { select } from '../support/rows.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

export interface PushWorld {
  stores: TestStores;
  saleId: string;
  /** A receiver, and an endpoint of this name that leads to it. */
  addEndpoint(
    name: string,
    options?: { respond?: Respond; terms?: Partial<EndpointTerms> },
  ): Promise<{ receiver: Receiver; endpoint: Endpoint; secret: string }>;
  /** Has a worker push, until the test ends or the worker is stopped. It probes where `probe` says so. */
  startWorker(options?: Partial<PusherDeps>): { stop: () => Promise<void> };
  /** Has a worker add so many deliveries of an endpoint, and send nothing. */
  feedOnly(name: string, deliveries: number): Promise<void>;
  /** Each order gets an event for each of its first `changes` changes: stored, to be cancelled, cancelled. */
  makeOrders(count: number, changes?: 1 | 2 | 3): Promise<Order[]>;
  cancel(order: Order): Promise<void>;
  /** Events without an order, all of one line. */
  makeSaleEvents(count: number): Promise<void>;
  /** Gives all events their places in the feed. */
  publish(): Promise<void>;
  /** The deliveries of an endpoint by status. */
  countDeliveries(name: string): Promise<Record<string, number>>;
  /** Waits until nothing waits for the endpoint any more, neither as a row nor in the feed. */
  awaitCaughtUp(name: string): Promise<void>;
  /** The pause before the next probe of an endpoint that fails is over. */
  probe(name: string): Promise<void>;
}

/** No probe comes by itself within a test. */
const FIRST_PROBE_MS = 60_000;

/** Belongs to the test that calls it, or before which it is called. */
export async function openPushWorld(): Promise<PushWorld> {
  const stores = await openTestStores();
  const { saleId } = await stores.openSale(
    buildSale({
      skus: [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 100_000, limitPerUser: null }],
    }),
  );
  const { endpoints, pool } = stores;

  async function cancel({ orderNo }: Order): Promise<void> {
    await stores.orders.cancel(orderNo, 'shopper_request', { force: true });
  }

  const world: PushWorld = {
    stores,
    saleId,
    async addEndpoint(name, { respond, terms } = {}) {
      const receiver = await openReceiver(respond);
      onTestFinished(() => receiver.close());
      const secret = createSecret();
      const all = { url: receiver.url, types: null, saleId: null, description: '', ...terms };
      const put = await endpoints.put(name, all, secret, 'ada');
      if (put.kind === 'full') throw new Error('there are too many endpoints');
      return { receiver, endpoint: put.endpoint, secret };
    },
    startWorker(options = {}) {
      const stopping = new AbortController();
      const deps = {
        ...stores,
        sender: { allowPrivate: true, timeoutMs: 60_000 },
        firstProbeMs: FIRST_PROBE_MS,
        log: silent,
        ...options,
      };
      const pusher = createPusher(deps, stopping.signal);
      const ended = runLoop('push', pusher.pass, { log: silent, signal: stopping.signal });
      const stop = async (): Promise<void> => {
        stopping.abort();
        await ended;
        await pusher.drain();
      };
      onTestFinished(stop);
      return { stop };
    },
    async feedOnly(name, deliveries) {
      const { stop } = world.startWorker({
        deliveries: { ...stores.deliveries, take: async () => undefined },
      });
      await waitFor('the deliveries', async () => {
        return (await world.countDeliveries(name))['waiting'] === deliveries;
      });
      await stop();
    },
    async makeOrders(count, changes = 1) {
      const orders = Array.from({ length: count }, () => buildOrder({ saleId, userId: ulid() }));
      await stores.orders.storeOrders(orders, 'started');
      for (const order of orders) {
        if (changes > 1) await stores.orders.requestCancel(order.orderNo);
        if (changes > 2) await cancel(order);
      }
      return orders;
    },
    cancel,
    async makeSaleEvents(count) {
      for (let i = 0; i < count; i += 1)
        await recordShopEvent(pool, { type: 'sale.changed', saleId, subject: saleId, data: { i } });
    },
    async publish() {
      await stores.eventRows.numberEvents(100_000);
    },
    async countDeliveries(name) {
      const rows = await select(
        pool,
        `SELECT d.status, COUNT(*) AS n FROM push_deliveries d JOIN push_endpoints e USING (endpoint_id)
         WHERE e.name = ? GROUP BY d.status`,
        [name],
      );
      return Object.fromEntries(rows.map((row) => [String(row['status']), Number(row['n'])]));
    },
    async awaitCaughtUp(name) {
      await waitFor(`${name} to be caught up`, async () => {
        const health = (await endpoints.read(name))?.health;
        return health?.waiting === 0 && health.behind === 0;
      });
    },
    async probe(name) {
      await modify(
        pool,
        'UPDATE push_endpoints SET probe_at = NOW(3) WHERE name = ? AND removed_at IS NULL',
        [name],
      );
    },
  };
  return world;
}
