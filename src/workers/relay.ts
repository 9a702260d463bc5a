/**
 * The relay: follows the outbox of every sale, brings due orders and refunds to Temporal, finds the orders of money, and
 * publishes the backlog.
 */

import { hostname } from 'node:os';
import type { Logger } from 'pino';
import { ulid } from 'ulidx';
import type { OrderEngine } from '../engine/order-engine.ts';
import type { OrderSigner } from '../payments/signed-order.ts';
import type { RefundClaims } from '../stores/mysql/money/refund-claims.ts';
import type { UnmatchedPayments } from '../stores/mysql/money/unmatched-payments.ts';
import type { OrderClaims } from '../stores/mysql/orders/order-claims.ts';
import type { Orders } from '../stores/mysql/orders/orders.ts';
import type { Sales } from '../stores/mysql/sales.ts';
import type { RedisClient } from '../stores/redis/connection.ts';
import type { EngineBudget } from '../stores/redis/engine-budget.ts';
import { formatSaleShard, type SaleShard } from '../stores/redis/keys.ts';
import { createOutbox, listActiveSales } from '../stores/redis/outbox.ts';
import type { Reservations } from '../stores/redis/reservations.ts';
import type { SaleStock } from '../stores/redis/sale-stock.ts';
import { createEngineGate } from './engine-gate.ts';
import { runLoop } from './loop.ts';
import { createOutboxFollower } from './outbox-follower.ts';
import { createRefundStarter } from './refund-starter.ts';
import { createStarter } from './starter.ts';
import { createUnmatchedPaymentSweep } from './unmatched-payments.ts';

/** How soon a new sale is noticed, and how fresh the published backlog is. */
const SURVEY_EVERY_MS = 1_000;
/** What is swept up has waited for minutes at least. */
const SWEEP_EVERY_MS = 60_000;
/** Rows per sweep: a transaction's worth; the rest comes a minute later. */
const SWEEP_MAX = 100;

export interface RelayDeps {
  redis: RedisClient;
  /** Opens a connection for blocking reads. */
  connectBlocking: () => Promise<RedisClient>;
  reservations: Reservations;
  saleStock: SaleStock;
  orders: Orders;
  orderClaims: OrderClaims;
  unmatchedPayments: UnmatchedPayments;
  refundClaims: RefundClaims;
  sales: Sales;
  engine: Omit<OrderEngine, 'queryStatus'>;
  budget: EngineBudget;
  signer: Pick<OrderSigner, 'verify'>;
  log: Logger;
}

/** Runs until `signal` aborts and what was under way is done. */
export async function runRelay(deps: RelayDeps, signal: AbortSignal): Promise<void> {
  const { redis, orders, orderClaims, refundClaims, sales, saleStock, engine, log } = deps;
  const consumer = `${hostname()}-${process.pid}-${ulid()}`;
  const gate = createEngineGate(deps.budget, log);
  const followers = new Map<string, Follower>();

  async function follow(saleShard: SaleShard, until: AbortSignal): Promise<void> {
    const blocking = await deps.connectBlocking();
    try {
      const outbox = createOutbox(redis, blocking, saleShard, consumer);
      const bound = log.child({ sale: saleShard.saleId });
      const pass = createOutboxFollower({ ...deps, outbox, gate, log: bound });
      await runLoop('outbox', pass, { log: bound, signal: until });
    } finally {
      blocking.disconnect();
    }
  }

  function startFollowing(name: string, saleShard: SaleShard): void {
    const stop = new AbortController();
    const done = follow(saleShard, AbortSignal.any([signal, stop.signal]))
      // It could not even connect: the next survey tries again.
      .catch((error: unknown) => log.warn({ err: error, sale: saleShard.saleId }, 'cannot follow the outbox'))
      .finally(() => followers.delete(name));
    followers.set(name, { stop, done });
  }

  /** Follows the sales that are on, lets go of those that are over, and tells `reserve` how many stored orders wait. */
  async function survey(): Promise<number> {
    const active = new Map((await listActiveSales(redis)).map((shard) => [formatSaleShard(shard), shard]));
    for (const [name, { stop }] of followers) if (!active.has(name)) stop.abort();
    for (const [name, shard] of active) if (!followers.has(name)) startFollowing(name, shard);
    const waiting = await sales.countStoredAhead();
    for (const { saleId } of active.values()) {
      await saleStock.setStoredAhead(saleId, waiting.get(saleId) ?? 0);
    }
    return SURVEY_EVERY_MS;
  }

  /** Wakes what should have ended by itself and has not. */
  async function sweep(): Promise<number> {
    const woken = await orderClaims.requeueOverdue(SWEEP_MAX);
    if (woken > 0) log.warn({ woken }, 'orders are long past their deadline');
    const stuck = await refundClaims.requeueOverdue(SWEEP_MAX);
    if (stuck > 0) log.warn({ woken: stuck }, 'refunds have not moved for an hour');
    return SWEEP_EVERY_MS;
  }

  await Promise.all([
    runLoop('survey', survey, { log, signal }),
    runLoop('sweep', sweep, { log, signal }),
    runLoop('unmatched', createUnmatchedPaymentSweep(deps), { log, signal }),
    runLoop('starter', createStarter({ orders, orderClaims, engine, gate }), { log, signal }),
    runLoop('refunds', createRefundStarter({ refundClaims, engine, gate }), { log, signal }),
  ]);
  await Promise.all([...followers.values()].map(({ done }) => done));
}

interface Follower {
  stop: AbortController;
  done: Promise<void>;
}
