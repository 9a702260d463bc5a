/**
 * What the relay works with: stores of its own, and an engine
 * in a namespace that has no worker unless a test starts one.
 */

import { inject } from 'vitest';
import { z } from 'zod';
import { createMysqlPool } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { createEngineBudget } from '../../src/redis/budget.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { createOutbox, type Outbox } from '../../src/redis/outbox.ts';
import { mysqlStores } from '../../src/stores/bound.ts';
import type { StoreConfig } from '../../src/stores/open.ts';
import { openTcpProxy, type TcpProxy } from '../../stack/servers/tcp-proxy.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { closeLater } from '../support/close-later.ts';
import { buildSale } from '../support/factories.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { openRelayEngine, type TestEngine } from '../support/workflows/engines.ts';
import { describeIfStarted } from '../support/workflows/start.ts';

export interface RelayWorld extends TestEngine {
  stores: TestStores;
  saleId: string;
  /** The wire to Temporal. */
  wire: TcpProxy;
  /** Accepts this many orders of one lamp each. */
  accept(count: number): Promise<Order[]>;
  /** The outbox as a relay of this name has it. */
  outbox(consumer: string): Promise<Outbox>;
  /** Entries in the outbox, read or not. */
  outboxLength(): Promise<number>;
  /** Of the orders that are stored: whether the workflow has been started. */
  storedOrders(): Promise<Map<string, boolean>>;
  isStarted(orderNo: string): Promise<boolean>;
}

const row = z.object({ order_no: z.string(), started: z.coerce.boolean() });

/** Belongs to the test that calls it, with stores of its own. */
export async function openRelayWorld(
  namespace: string,
  config: Partial<StoreConfig> = {},
): Promise<RelayWorld> {
  const stores = await openTestStores(config);
  return openWorldOf(stores, namespace);
}

/** In stores that the tests of a file share: an empty Redis, and a sale of its own. */
export async function openSharedRelayWorld(
  shared: TestStores,
  namespace: string,
  { slots = 50 } = {},
): Promise<RelayWorld> {
  await shared.redis.flushall();
  return openWorldOf({ ...shared, budget: createEngineBudget(shared.redis, slots, silent) }, namespace);
}

async function openWorldOf(stores: TestStores, namespace: string): Promise<RelayWorld> {
  const wire = await openTcpProxy(inject('temporalAddress'));
  closeLater(wire.close);
  const relayEngine = await openRelayEngine(namespace, wire.address);
  closeLater(relayEngine.close);
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null }];
  const { saleId } = await stores.openSale(buildSale({ skus }));
  return {
    ...relayEngine,
    stores,
    saleId,
    wire,
    accept: (count) => Promise.all(Array.from({ length: count }, () => acceptOrder(stores, saleId))),
    async outbox(consumer) {
      const blocking = await stores.connectBlocking();
      closeLater(async () => blocking.disconnect());
      return createOutbox(stores.redis, blocking, { saleId, shard: 0 }, consumer);
    },
    outboxLength: () => stores.redis.xlen(saleKeys({ saleId, shard: 0 }).outbox),
    async storedOrders() {
      const sql = 'SELECT order_no, workflow_started_at IS NOT NULL AS started FROM orders WHERE sale_id = ?';
      const [rows] = await stores.pool.query(sql, [saleId]);
      return new Map(
        z
          .array(row)
          .parse(rows)
          .map(({ order_no, started }) => [order_no, started]),
      );
    },
    isStarted: async (orderNo) => (await describeIfStarted(relayEngine.client, orderNo)) !== undefined,
  };
}

/** The MySQL part of the relay's stores, at an address where no server listens. */
export async function openMysqlAway() {
  const pool = createMysqlPool('mysql://none@127.0.0.1:1/none');
  closeLater(() => pool.end());
  return { orders: mysqlStores(pool).orders, sales: mysqlStores(pool).sales };
}
