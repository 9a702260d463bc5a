/** GET /v1/orders: a shopper's own orders of a day. */

import type { Context } from 'koa';
import { z } from 'zod';
import { MAX_ORDERS_LISTED, MAX_SALE_TIME_MS, MIN_SALE_TIME_MS } from '../../domain/limits.ts';
import { parseOrderNo } from '../../domain/order.ts';
import type { UserOrderPlace } from '../../stores/mysql/orders/user-orders.ts';
import type { StoredOrder } from '../../stores/mysql/rows/order-rows.ts';
import type { Stores } from '../../stores/open.ts';
import type { ReservedOrder } from '../../stores/redis/reservations.ts';
import type { RequestState } from '../http/auth.ts';
import { parseInput, unavailable } from '../http/problem.ts';
import { pageLimit } from '../http/query.ts';
import type { OrdersReply } from '../http/replies.ts';
import { viewOrder } from './order-view.ts';
import type { Projection } from './projection.ts';

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
