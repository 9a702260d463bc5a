/** The relay: follows the outbox of every sale, brings due orders to Temporal, and publishes the backlog. */

import { hostname } from 'node:os';
import type { Logger } from 'pino';
import { ulid } from 'ulidx';
import type { OrderEngine } from '../engine/order-engine.ts';
import type { EngineBudget } from '../stores/engine-budget.ts';
import { formatSaleShard, type SaleShard } from '../stores/keys.ts';
import type { Orders } from '../stores/orders.ts';
import { createOutbox, listSaleShards } from '../stores/outbox.ts';
import type { RedisClient } from '../stores/redis.ts';
import type { Reservations } from '../stores/reservations.ts';
import type { SaleStock } from '../stores/sale-stock.ts';
import type { Sales } from '../stores/sales.ts';
import { createEngineGate } from './engine-gate.ts';
import { runLoop } from './loop.ts';
import { createOutboxFollower } from './outbox-follower.ts';
import { createStarter } from './starter.ts';

/** How soon a new sale is noticed, and how fresh the published backlog is. */
const SURVEY_EVERY_MS = 1_000;

export interface RelayDeps {
  redis: RedisClient;
  /** Opens a connection for blocking reads. */
  connectBlocking: () => Promise<RedisClient>;
  reservations: Reservations;
  saleStock: SaleStock;
  orders: Orders;
  sales: Sales;
  engine: Omit<OrderEngine, 'queryStatus'>;
  budget: EngineBudget;
  log: Logger;
}

/** Runs until `signal` aborts and what was under way is done. */
export async function runRelay(deps: RelayDeps, signal: AbortSignal): Promise<void> {
  const { redis, orders, sales, saleStock, engine, log } = deps;
  const consumer = `${hostname()}-${process.pid}-${ulid()}`;
  const gate = createEngineGate(deps.budget, log);
  const followers = new Map<string, Promise<void>>();
  const published = new Map<string, number>();

  async function follow(saleShard: SaleShard): Promise<void> {
    const blocking = await deps.connectBlocking();
    try {
      const outbox = createOutbox(redis, blocking, saleShard, consumer);
      const bound = log.child({ sale: saleShard.saleId });
      const pass = createOutboxFollower({ ...deps, outbox, gate, log: bound });
      await runLoop('outbox', pass, { log: bound, signal });
    } finally {
      blocking.disconnect();
    }
  }

  /** Follows sales that are new, and tells `reserve` how many stored orders still wait. */
  async function survey(): Promise<number> {
    for (const saleShard of await listSaleShards(redis)) {
      const name = formatSaleShard(saleShard);
      if (followers.has(name)) continue;
      const following = follow(saleShard).catch((error: unknown) => {
        // It could not even connect: the next survey tries again.
        log.warn({ err: error, sale: saleShard.saleId }, 'cannot follow the outbox');
        followers.delete(name);
      });
      followers.set(name, following);
    }
    await publishBacklog();
    return SURVEY_EVERY_MS;
  }

  async function publishBacklog(): Promise<void> {
    const waiting = await sales.countStoredAhead();
    for (const saleId of new Set([...waiting.keys(), ...published.keys()])) {
      const count = waiting.get(saleId) ?? 0;
      if (published.get(saleId) !== count) await saleStock.publishStoredAhead(saleId, count);
      published.set(saleId, count);
    }
  }

  await Promise.all([
    runLoop('survey', survey, { log, signal }),
    runLoop('starter', createStarter({ orders, engine, gate }), { log, signal }),
  ]);
  await Promise.all(followers.values());
}
