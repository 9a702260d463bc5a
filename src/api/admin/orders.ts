/** Orders for staff: found by reference, user or sale, shown whole, and cancelled. */

import { z } from 'zod';
import { withShown } from '../../domain/content.ts';
import { userIdSchema } from '../../domain/ids.ts';
import { MAX_DECISION_CHARS, MAX_ORDERS_LISTED, SALE_ID_PATTERN } from '../../domain/limits.ts';
import { isFinal, ORDER_STATUSES, parseOrderNo } from '../../domain/order.ts';
import { referenceSchema } from '../../domain/shop-data.ts';
import { readMysqlLife, type MysqlLife } from '../../stores/mysql/ops/order-life.ts';
import type { WishRecorded } from '../../stores/mysql/orders/orders.ts';
import type { Stores } from '../../stores/open.ts';
import { formatSaleShard } from '../../stores/redis/keys.ts';
import type { ReservedOrder } from '../../stores/redis/reservations.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import { pageLimit } from '../http/query.ts';
import type { OrderFileReply, StaffOrderReply, StaffOrdersReply } from '../http/replies.ts';
import type { EngineNotifier } from '../orders/engine-notifier.ts';
import type { LostOrders } from '../orders/lost-orders.ts';
import { viewOrder } from '../orders/order-view.ts';
import type { AdminContext } from './calls.ts';
import { orderNoOf, orderUnknown, viewRefund } from './refunds.ts';

export interface StaffOrderRoutesDeps extends Stores {
  lostOrders: Pick<LostOrders, 'judge'>;
  notifier: Pick<EngineNotifier, 'cancelRequested'>;
}

const decisionBody = z.strictObject({ reason: z.string().trim().min(1).max(MAX_DECISION_CHARS).optional() });

const FILTERS = ['reference', 'userId', 'saleId'] as const;
const listQuery = z
  .strictObject({
    reference: referenceSchema.optional(),
    userId: userIdSchema.optional(),
    saleId: z.string().regex(SALE_ID_PATTERN).optional(),
    status: z.enum(ORDER_STATUSES).optional(),
    after: z
      .string()
      .refine((text) => parseOrderNo(text) !== undefined, 'an orderNo')
      .optional(),
    limit: pageLimit(MAX_ORDERS_LISTED),
  })
  .refine((query) => FILTERS.filter((name) => query[name] !== undefined).length === 1, {
    message: `exactly one of ${FILTERS.join(', ')}`,
  });

export function createStaffOrderRoutes(deps: StaffOrderRoutesDeps) {
  const { pool, orders, staffOrders, refunds, reservations, lostOrders, notifier } = deps;

  /**
   * The order as Redis has it: accepted, and not stored yet. One that was lost before it was stored is not
   * found: nothing is left of it that staff could look at.
   * @throws Problem where there is none
   */
  async function findQueued(orderNo: string): Promise<ReservedOrder> {
    const { found, isCertain } = await reservations.lookUp(orderNo).catch(failToRead);
    if (found) return found;
    if (isCertain) throw orderUnknown();
    const missing = await lostOrders.judge(orderNo).catch(failToRead);
    throw missing === 'undecided' ? unreadable(undefined) : orderUnknown();
  }

  /** A wish to cancel must be durable, so an order that still waits to be stored is stored first. */
  async function recordWish(orderNo: string, actor: string, reason: string | null): Promise<WishRecorded> {
    const stored = await orders.read(orderNo);
    if (!stored) {
      const queued = await findQueued(orderNo);
      // MySQL has lost it, and it comes back as it was.
      if (isFinal(queued.state.status) || queued.state.payment !== 'none')
        return { ...queued, isNews: false };
      const outcome = await orders.storeOrder(withShown(queued.order, queued.state), 'due');
      // Its own workflow meets the refusal and gives the stock back: nothing is left to cancel.
      if (outcome.kind === 'refused') return { ...queued, isNews: false };
    }
    return orders.requestCancel(orderNo, { actor, reason });
  }

  return {
    async list(ctx: AdminContext): Promise<void> {
      const { limit, status, after, ...filter } = parseInput(listQuery, { ...ctx.query });
      const by = FILTERS.find((name) => filter[name] !== undefined) ?? 'userId';
      const search = { by, value: filter[by] ?? '', status, after };
      const found = await staffOrders.list(search, limit).catch(failToRead);
      const last = found.length === limit ? found.at(-1) : undefined;
      ctx.set('Cache-Control', 'no-store');
      ctx.body = {
        orders: found.map(viewForStaff),
        next: last?.order.orderNo ?? null,
      } satisfies StaffOrdersReply;
    },

    async show(ctx: AdminContext): Promise<void> {
      const orderNo = orderNoOf(ctx);
      const parts = parseOrderNo(orderNo);
      const saleShard = parts ? formatSaleShard(parts) : '';
      const life = await readMysqlLife(pool, orderNo, saleShard).catch(failToRead);
      const found = life.stored ?? (await findQueued(orderNo));
      const requested = await refunds.readRefundsOf(orderNo).catch(failToRead);
      const { currency } = found.order;
      ctx.set('Cache-Control', 'no-store');
      ctx.body = {
        ...viewForStaff(found),
        ...viewLife(life),
        refunds: requested.map((refund) => viewRefund({ refund, currency })),
      } satisfies OrderFileReply;
    },

    async cancel(ctx: AdminContext): Promise<void> {
      const orderNo = orderNoOf(ctx);
      const { reason = null } = parseInput(decisionBody, ctx.state.body);
      const recorded = await recordWish(orderNo, ctx.state.userId, reason).catch((error: unknown) => {
        if (error instanceof Problem) throw error;
        throw unavailable('cancel_unavailable', 'The order cannot be cancelled right now.', error);
      });
      const { order, state } = recorded;
      if (state.status === 'paid' || state.payment !== 'none') {
        throw new Problem('already_paid', 'The order has been paid: refund it.', {
          extra: { order: viewOrder(order, state) },
        });
      }
      // The relay signals what was not signalled the first time.
      if (recorded.isNews) notifier.cancelRequested(recorded);
      ctx.status = isFinal(state.status) ? 200 : 202;
      ctx.body = viewForStaff(recorded);
    },
  };
}

function viewForStaff({ order, state }: ReservedOrder): StaffOrderReply {
  return { ...viewOrder(order, state), userId: order.userId };
}

function viewLife({ payments, reversals, events, parked }: MysqlLife) {
  return {
    payments: payments.map((payment) => ({
      paymentId: payment.paymentId,
      provider: payment.provider,
      providerPaymentId: payment.providerPaymentId,
      amount: payment.amount,
      currency: payment.currency,
      status: payment.status,
      reason: payment.reason,
      refundTarget: payment.refundTarget,
      receivedAt: payment.receivedAt.toISOString(),
    })),
    reversals: reversals.map(
      ({ provider_payment_id: providerPaymentId, kind, amount, currency, ...row }) => ({
        providerPaymentId,
        kind,
        amount,
        currency,
        status: row.status,
        createdAt: row.created_at.toISOString(),
      }),
    ),
    history: events.map(({ occurred_at: occurredAt, ...event }) => ({
      ...event,
      occurredAt: occurredAt.toISOString(),
    })),
    parked: parked.map((entry) => ({
      parkedId: entry.parkedId,
      kind: entry.kind,
      cause: entry.cause,
      reason: entry.reason,
      times: entry.times,
      since: entry.firstAt.toISOString(),
      resolvedAt: entry.resolvedAt?.toISOString() ?? null,
    })),
  } satisfies Partial<OrderFileReply>;
}

function failToRead(error: unknown): never {
  throw unreadable(error);
}

function unreadable(error: unknown): Problem {
  return unavailable('status_unavailable', 'The orders cannot be read right now.', error);
}
