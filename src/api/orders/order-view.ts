/** An order as callers see it, and where it is found. */

import type { Logger } from 'pino';
import {
  isFinal,
  orderDeadlineMs,
  parseOrderNo,
  type Order,
  type OrderState,
  type OrderStatus,
} from '../../domain/order.ts';
import type { Orders } from '../../stores/mysql/orders/orders.ts';
import type { ReservedOrder, Reservations } from '../../stores/redis/reservations.ts';
import { orderNotFound, unavailable } from '../http/problem.ts';
import type { OrderReply, SourcedOrderReply } from '../http/replies.ts';

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

export interface FinderDeps {
  reservations: Pick<Reservations, 'readOrder' | 'project'>;
  orders: Pick<Orders, 'read'>;
  log: Logger;
}

/** `source`: where the state was read. */
export interface FoundOrder extends ReservedOrder {
  source: Exclude<SourcedOrderReply['source'], 'workflow'>;
}

export type OrderFinder = ReturnType<typeof createOrderFinder>;

/**
 * Orders of a user, from the projection or, where Redis has none or is away, from MySQL. A caller that knows
 * a newer version than the projection, say from a time when Redis was away, gets what MySQL has: a status
 * never goes back.
 */
export function createOrderFinder({ reservations, orders, log }: FinderDeps) {
  /**
   * @param knownVersion the newest that the caller has seen
   * @throws Problem 404 for what is no order of this user
   */
  return async function findOrder(orderNo: string, userId: string, knownVersion = 0): Promise<FoundOrder> {
    if (!parseOrderNo(orderNo)) throw orderNotFound();
    const found = await read(orderNo, knownVersion);
    if (found?.order.userId !== userId) throw orderNotFound();
    return found;
  };

  async function read(orderNo: string, knownVersion: number): Promise<FoundOrder | undefined> {
    const projection = await readProjection(orderNo);
    const projected = projection === 'no-answer' ? undefined : projection;
    if (projected && projected.state.version >= knownVersion) return { ...projected, source: 'projection' };
    try {
      const stored = await orders.read(orderNo);
      if (stored && projected) await projectState({ reservations, log }, stored);
      if (stored) return { ...stored, source: 'database' };
      if (projected) return { ...projected, source: 'projection' };
      // Redis may hold an accepted order that is not stored yet: only its answer proves that there is none.
      if (projection === undefined) return undefined;
    } catch (error) {
      throw unavailable('status_unavailable', 'The status cannot be read right now.', error);
    }
    throw unavailable('status_unavailable', 'The status cannot be read right now.', undefined);
  }

  async function readProjection(orderNo: string): Promise<ReservedOrder | 'no-answer' | undefined> {
    try {
      return await reservations.readOrder(orderNo);
    } catch (error) {
      log.warn({ err: error, orderNo }, 'no answer from Redis; asking MySQL');
      return 'no-answer';
    }
  }
}

/**
 * Projects what MySQL has before it is answered, so that no later answer is older. Without Redis no process
 * reads a projection; when it is back the workflow projects again, and until then callers name the version
 * they know.
 */
export async function projectState(
  { reservations, log }: Pick<FinderDeps, 'log'> & { reservations: Pick<Reservations, 'project'> },
  { order, state }: ReservedOrder,
): Promise<void> {
  try {
    await reservations.project(order.orderNo, state);
  } catch (error) {
    log.warn({ err: error, orderNo: order.orderNo }, 'answered and not projected');
  }
}

/** What callers see of an order is fixed when it is accepted, except for its state. */
type VisibleOrder = Pick<
  Order,
  'orderNo' | 'saleId' | 'items' | 'total' | 'currency' | 'reservedAtMs' | 'paymentWindowMs'
>;

/** The one shape of an order in every answer. `closing`: its end is under way, and payment can still win. */
export function viewOrder(order: VisibleOrder, state: OrderState): OrderReply {
  const { status, version, payment, reason } = state;
  return {
    orderNo: order.orderNo,
    saleId: order.saleId,
    status,
    version,
    payment,
    reason,
    closing: reason !== null && !isFinal(status),
    items: order.items,
    total: order.total,
    currency: order.currency,
    reservedAt: new Date(order.reservedAtMs).toISOString(),
    deadline: new Date(orderDeadlineMs(order)).toISOString(),
    pollAfterMs: POLL_AFTER_MS[status],
  };
}
