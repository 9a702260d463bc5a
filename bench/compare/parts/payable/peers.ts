/** The other designs as contestants: orders wait in their queue, and their consumer is let loose. */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import postgres, { type Sql } from 'postgres';
import { z } from 'zod';
import { selectRows } from '../../../../src/mysql/connection.ts';
import type { Order } from '../../../../src/orders/content.ts';
import { buildOrders, SKU } from '../../../peers/orders.ts';
import type { Figures } from '../../part.ts';
import type { CheckoutStack } from './checkout-stack.ts';
import { startConsumer, type ConsumerName } from './consumer-process.ts';
import { fillBullmq, fillDbos, fillList, fillRabbitmq, fillRestate } from './queues.ts';

const LOOK_EVERY_MS = 20;
/** Bounds a hang. */
const DRAIN_TIMEOUT_MS = 5 * 60_000;

export interface PeerServers {
  amqpUrl: string;
  postgresUrl: string;
  restate: { ingressUrl: string; adminUrl: string };
}

/** Where the orders wait, and how they get there. */
interface OrderQueue {
  consumer: ConsumerName;
  queueUrl: string;
  fill(queue: string, orders: readonly Order[]): Promise<void>;
}

/** Where they end. */
interface Store {
  storeUrl: string;
  openSale(units: number): Promise<string>;
  untilHeld(saleId: string, units: number): Promise<void>;
  count(saleId: string): Promise<number>;
}

export type Drain = (orders: number) => Promise<Figures>;

/** Each drains as many orders as it is given. `close` before the servers stop. */
export function createPeers(
  stack: CheckoutStack,
  servers: PeerServers,
): Record<PeerName, Drain> & { close(): Promise<void> } {
  const { redis, servers: own } = stack;
  const { amqpUrl, postgresUrl, restate } = servers;
  const mysql = mysqlStore(stack);
  const sql = postgres(postgresUrl);
  const drain =
    (queue: OrderQueue, store: Store): Drain =>
    async (orders) => {
      const figures = await drainQueue(queue, store, orders);
      await stack.clear();
      return figures;
    };
  return {
    luaList: drain(
      {
        consumer: 'lua-list',
        queueUrl: own.redisUrl,
        fill: (queue, orders) => fillList(redis, queue, orders),
      },
      mysql,
    ),
    rabbitmq: drain(
      {
        consumer: 'rabbitmq',
        queueUrl: amqpUrl,
        fill: (queue, orders) => fillRabbitmq(amqpUrl, queue, orders),
      },
      mysql,
    ),
    bullmq: drain(
      {
        consumer: 'bullmq',
        queueUrl: own.redisUrl,
        fill: (queue, orders) => fillBullmq(own.redisUrl, queue, orders),
      },
      mysql,
    ),
    dbos: drain(
      {
        consumer: 'dbos',
        queueUrl: postgresUrl,
        fill: (queue, orders) => fillDbos(postgresUrl, queue, orders),
      },
      postgresStore(postgresUrl, sql),
    ),
    restate: drain(
      {
        consumer: 'restate',
        queueUrl: restate.adminUrl,
        fill: (queue, orders) => fillRestate(restate.ingressUrl, queue, orders),
      },
      mysql,
    ),
    close: () => sql.end(),
  };
}

type PeerName = 'luaList' | 'rabbitmq' | 'bullmq' | 'dbos' | 'restate';

async function drainQueue(queue: OrderQueue, store: Store, orders: number): Promise<Figures> {
  const name = `orders${Date.now()}`;
  const { consumer: script, queueUrl } = queue;
  const consumer = await startConsumer(script, { storeUrl: store.storeUrl, queueUrl, queue: name });
  try {
    const saleId = await store.openSale(orders);
    await queue.fill(name, buildOrders(saleId, orders));
    const startedMs = performance.now();
    consumer.begin();
    await store.untilHeld(saleId, orders);
    const seconds = (performance.now() - startedMs) / 1_000;
    assert.equal(await store.count(saleId), orders, 'every order is stored, and once');
    return { rate: orders / seconds, memory: consumer.peakMemoryMb() };
  } finally {
    await consumer.end();
  }
}

function mysqlStore({ servers, pool, openSale, untilHeld }: CheckoutStack): Store {
  return {
    storeUrl: servers.mysqlUrl,
    openSale,
    untilHeld,
    async count(saleId) {
      const row = z.object({ orders: z.int() });
      const [counted] = await selectRows(
        pool,
        row,
        'SELECT COUNT(*) AS orders FROM orders WHERE sale_id = ?',
        [saleId],
      );
      return counted?.orders ?? 0;
    },
  };
}

/** For the peer that keeps its orders beside its own state. */
function postgresStore(url: string, sql: Sql): Store {
  const saleRows = z.array(z.object({ held: z.int() }));
  return {
    storeUrl: url,
    async openSale(units) {
      const saleId = `bench-${Date.now()}`;
      await sql`INSERT INTO skus (sale_id, sku, total) VALUES (${saleId}, ${SKU}, ${units})`;
      return saleId;
    },
    async untilHeld(saleId, units) {
      const endMs = performance.now() + DRAIN_TIMEOUT_MS;
      for (;;) {
        const rows = saleRows.parse([...(await sql`SELECT held FROM skus WHERE sale_id = ${saleId}`)]);
        if (rows[0]?.held === units) return;
        assert(performance.now() < endMs, `${rows[0]?.held} of ${units} orders are stored`);
        await delay(LOOK_EVERY_MS);
      }
    },
    async count(saleId) {
      const rows = await sql`SELECT COUNT(*)::int AS held FROM orders WHERE sale_id = ${saleId}`;
      return saleRows.parse([...rows])[0]?.held ?? 0;
    },
  };
}
