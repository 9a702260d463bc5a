/** An order as callers see it, and where it is found. */

import type { Context } from 'koa';
import { z } from 'zod';
import { showOrder, type VisibleOrder } from '../../domain/content.ts';
import { MAX_ORDERS_LISTED, MAX_SALE_TIME_MS, MIN_SALE_TIME_MS } from '../../domain/limits.ts';
import { isFinal, parseOrderNo, type OrderState, type OrderStatus } from '../../domain/order.ts';
import type { UserOrderPlace } from '../../stores/mysql/orders/user-orders.ts';
import type { StoredOrder } from '../../stores/mysql/rows/order-rows.ts';
import type { Stores } from '../../stores/open.ts';
import type { ReservedOrder } from '../../stores/redis/reservations.ts';
import type { RequestState } from '../http/auth.ts';
import { orderNotFound, unavailable, parseInput } from '../http/problem.ts';
import { pageLimit } from '../http/query.ts';
import type { OrderReply, SourcedOrderReply, OrdersReply } from '../http/replies.ts';
import type { LostOrders } from './lost-orders.ts';
import type { Projection } from './projection.ts';

/**
 * When to ask again, in ms: soon while the order is being stored, then at a human pace, and never once it has
 * ended. Whole seconds, because `Retry-After` beside the 202 counts in seconds and must name the same moment.
 */
const POLL_AFTER_MS: Record<OrderStatus, number | null> = {
  queued: 1_000,
  awaiting_payment: 2_000,
  paid: null,
  cancelled: null,
  failed: null,
};

export interface FinderDeps extends Stores {
  projection: Projection;

  lostOrders: Pick<LostOrders, 'judgeFor'>;
}

/** `source`: where the state was read. */
export interface FoundOrder extends ReservedOrder {
  source: Exclude<SourcedOrderReply['source'], 'workflow'>;
}

export type OrderFinder = ReturnType<typeof createOrderFinder>;

/**
 * Orders of a user, from the projection or, where Redis has none or is away, from MySQL. Where the projection
 * is doubted, or a caller knows a newer version, it gets what MySQL has: a status never goes back. An order
 * that was lost with the data of Redis is answered as failed.
 */
export function createOrderFinder({ projection, orders, lostOrders }: FinderDeps) {
  /**
   * @param knownVersion the newest that the caller has seen
   * @throws Problem 404 for what is no order of this user
   */
  return async function findOrder(orderNo: string, userId: string, knownVersion = 0): Promise<FoundOrder> {
    if (!parseOrderNo(orderNo)) throw orderNotFound();
    const found = await read(orderNo, userId, knownVersion);
    if (found?.order.userId !== userId) throw orderNotFound();
    return found;
  };

  async function read(
    orderNo: string,
    userId: string,
    knownVersion: number,
  ): Promise<FoundOrder | undefined> {
    const answer = await projection.read(orderNo);
    const look = answer === 'no-answer' ? { found: undefined, isCertain: false } : answer;
    const { found: projected, isCertain } = look;
    const isNewEnough = projected && isCertain && projected.state.version >= knownVersion;
    if (isNewEnough && !(await projection.isDoubted())) return { source: 'projection', ...projected };
    try {
      const stored = await orders.read(orderNo);
      if (stored && projected) await projection.project(stored);
      if (stored) return { source: 'database', ...stored };
      if (projected) return { source: 'projection', ...projected };
      // Redis may hold an accepted order that is not stored yet: only its answer proves that there is none.
      if (isCertain) return undefined;
      const missing = answer === 'no-answer' ? 'undecided' : await lostOrders.judgeFor(orderNo, userId);
      if (missing === 'unknown') return undefined;
      if (missing !== 'undecided') return { source: 'database', ...missing };
    } catch (error) {
      throw unavailable('status_unavailable', 'The status cannot be read right now.', error);
    }
    throw unavailable('status_unavailable', 'The status cannot be read right now.', undefined);
  }
}

/** The one shape of an order in every answer. `closing`: its end is under way, and payment can still win. */
export function viewOrder(order: VisibleOrder, state: OrderState): OrderReply {
  const { status, reason } = state;
  // V8 makes a slow object of a spread to which keys are added: that took 3.4 us here, and this 0.8.
  return Object.assign(showOrder(order, state), {
    closing: reason !== null && !isFinal(status),
    pollAfterMs: POLL_AFTER_MS[status],
  });
}

// GET /v1/orders: a shopper's own orders of a day.

const DAY_MS = 24 * 60 * 60 * 1000;

const listQuery = z.strictObject({
  /** A day in UTC. @returns its beginning, in Unix ms */
  date: z.iso
    .date()
    .transform((day) => Date.parse(day))
    .refine((ms) => ms >= MIN_SALE_TIME_MS && ms < MAX_SALE_TIME_MS, 'a day of this century'),
  after: z
    .string()
    .transform((text) => parsePlace(text) ?? 'nowhere')
    .refine((place) => place !== 'nowhere', 'the `next` of the page before')
    .optional(),
  limit: pageLimit(MAX_ORDERS_LISTED),
});

export interface OrderListDeps extends Stores {
  projection: Projection;
}

export function createListOrders({ userOrders, projection }: OrderListDeps) {
  /** As a look at this order alone answers it: neither answer is older than the other. */
  async function newest(stored: StoredOrder): Promise<ReservedOrder> {
    const look = await projection.read(stored.order.orderNo);
    if (look === 'no-answer' || !look.found) return stored;
    const { state } = look.found;
    if (state.version < stored.state.version) await projection.project(stored);
    return look.isCertain && state.version > stored.state.version ? { ...stored, state } : stored;
  }

  return async function listOrders(ctx: Context & { state: RequestState }): Promise<void> {
    const { date: fromMs, after, limit } = parseInput(listQuery, { ...ctx.query });
    const search = { userId: ctx.state.userId, fromMs, untilMs: fromMs + DAY_MS, after };
    const stored = await userOrders.list(search, limit).catch((error: unknown) => {
      throw unavailable('status_unavailable', 'The orders cannot be read right now.', error);
    });
    const last = stored.length === limit ? stored.at(-1) : undefined;
    const found = await Promise.all(stored.map(newest));
    ctx.body = {
      orders: found.map(({ order, state }) => viewOrder(order, state)),
      next: last ? formatPlace(last.order) : null,
    } satisfies OrdersReply;
  };
}

function formatPlace({ reservedAtMs, orderNo }: UserOrderPlace): string {
  return `${reservedAtMs}.${orderNo}`;
}

function parsePlace(text: string): UserOrderPlace | undefined {
  const [, time, orderNo = ''] = /^(\d{1,13})\.([^.]+)$/.exec(text) ?? [];
  return parseOrderNo(orderNo) ? { reservedAtMs: Number(time), orderNo } : undefined;
}
