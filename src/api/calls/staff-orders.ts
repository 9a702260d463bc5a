/** Orders for staff: found by reference, user or sale, shown whole, and cancelled. */

import { z } from 'zod';
import { MAX_DECISION_CHARS, SALE_ID_PATTERN } from '../../limits.ts';
import { PAYMENT_STATUSES, refusalSchema, REVERSAL_STATUSES } from '../../money/payment.ts';
import { storeOrAbandon } from '../../orders/both-stores.ts';
import { userIdSchema, referenceSchema } from '../../orders/content.ts';
import { readMysqlLife, type MysqlLife } from '../../orders/life.sql.ts';
import { isFinal, ORDER_STATUSES, parseOrderNo, PAYMENT_STATES } from '../../orders/order.ts';
import type { WishRecorded } from '../../orders/orders.sql.ts';
import type { ReservedOrder } from '../../orders/reservations.redis.ts';
import type { Decision } from '../../parked/parked.sql.ts';
import { formatSaleShard } from '../../redis/keys.ts';
import { NO_STORE, reply } from '../http/answer.ts';
import { Problem, requestIdOf } from '../http/problem.ts';
import { orderReply, amount, time, count } from '../http/replies.ts';
import { pageLimit } from '../http/request.ts';
import { adminCall, type AdminCalls, type BackOffice, ofOrder } from './call.ts';
import { viewOrder } from './find-order.ts';
import { MAX_ORDERS_LISTED } from './my-orders.ts';
import { orderRefundReply, viewRefund } from './refunds.ts';

const staffOrderReply = orderReply.extend({ userId: z.string() });
type StaffOrderReply = z.infer<typeof staffOrderReply>;

/** A page of orders. */
const staffOrdersReply = z.strictObject({
  orders: z.array(staffOrderReply),
  /** The `after` of the next page; null: this is the last one. */
  next: z.string().nullable(),
});

/** An order with all that is known of its money, what happened to it, and what waits for an operator. */
export const orderFileReply = staffOrderReply.extend({
  /** Null: no workflow of the order has begun. A paid order without one needs none. */
  workflowStartedAt: time.nullable(),
  payments: z.array(
    z.strictObject({
      paymentId: z.int().min(1),
      provider: z.string(),
      providerPaymentId: z.string(),
      amount,
      currency: z.string(),
      status: z.enum(PAYMENT_STATUSES),
      /** Why it is refunded; null: no refund was requested here. */
      reason: z.string().nullable(),
      /** Of the amount; what is to go back in all, by all requests. */
      refundTarget: amount,
      /** The provider's words at its last refusal of a refund; null: none, or it has accepted since. */
      refusal: refusalSchema.nullable(),
      receivedAt: time,
    }),
  ),
  /** What went back to the payer, or may: as the provider reports it. */
  reversals: z.array(
    z.strictObject({
      providerPaymentId: z.string(),
      kind: z.enum(['refund', 'dispute']),
      amount,
      currency: z.string(),
      status: z.enum(REVERSAL_STATUSES),
      createdAt: time,
    }),
  ),
  refunds: z.array(orderRefundReply),
  history: z.array(
    z.strictObject({
      version: z.int().min(1),
      status: z.enum(ORDER_STATUSES),
      payment: z.enum(PAYMENT_STATES),
      refunded: amount,
      reason: z.string().nullable(),
      /** Null: staff have not extended the deadline. */
      extendedUntil: time.nullable(),
      occurredAt: time,
    }),
  ),
  parked: z.array(
    z.strictObject({
      parkedId: z.int().min(1),
      kind: z.string(),
      cause: z.string(),
      reason: z.string(),
      times: count,
      since: time,
      resolvedAt: time.nullable(),
    }),
  ),
});
type OrderFileReply = z.infer<typeof orderFileReply>;

const decisionBody = z.strictObject({ reason: z.string().trim().min(1).max(MAX_DECISION_CHARS).optional() });

const deadlineBody = decisionBody.extend({
  until: z.iso.datetime({ offset: true }).transform((text) => Date.parse(text)),
});

const FILTERS = ['reference', 'userId', 'saleId'] as const;
const listQuery = z
  .strictObject({
    reference: referenceSchema
      .optional()
      .describe("Those of this number of the shop's. One of these three is given."),
    userId: userIdSchema.optional().describe('Those of this user.'),
    saleId: z.string().regex(SALE_ID_PATTERN).optional().describe('Those of this sale.'),
    status: z.enum(ORDER_STATUSES).optional().describe('Those in this status alone.'),
    after: z
      .string()
      .refine((text) => parseOrderNo(text) !== undefined, 'an orderNo')
      .optional()
      .describe('Those after the page whose `next` this is.'),
    limit: pageLimit(MAX_ORDERS_LISTED),
  })
  .refine((query) => FILTERS.filter((name) => query[name] !== undefined).length === 1, {
    message: `exactly one of ${FILTERS.join(', ')}`,
  });

export const orderCalls = {
  'GET /v1/admin/orders': adminCall({
    id: 'findOrders',
    does: 'The orders of a reference, a user or a sale, a page at a time',
    scope: 'orders:read',
    query: listQuery,
    replies: { 200: staffOrdersReply },
    away: 'status_unavailable',
    refuses: {},
    async answer(office, { query: { limit, status, after, ...filter } }) {
      const by = FILTERS.find((name) => filter[name] !== undefined) ?? 'userId';
      const search = { by, value: filter[by] ?? '', status, after };
      const found = await office.staffOrders.list(search, limit);
      const last = found.length === limit ? found.at(-1) : undefined;
      const orders = found.map((each) => viewForStaff(office, each));
      return reply({ orders, next: last?.order.orderNo ?? null }, 200, NO_STORE);
    },
  }),
  'GET /v1/admin/orders/:orderNo': adminCall({
    id: 'getOrderFile',
    does: 'An order with its money, what happened to it, and what waits for an operator',
    scope: 'orders:read',
    params: ofOrder,
    replies: { 200: orderFileReply },
    away: 'status_unavailable',
    refuses: { unknown: 'order_not_found', undecided: 'status_unavailable' },
    async answer(office, { params: { orderNo } }) {
      const parts = parseOrderNo(orderNo);
      const life = await readMysqlLife(office.pool, orderNo, parts ? formatSaleShard(parts) : '');
      const found = life.stored ?? (await findQueued(office, orderNo));
      if ('kind' in found) return found;
      const requested = await office.refunds.readRefundsOf(orderNo);
      const { currency } = found.order;
      const refunds = requested.map((refund) => viewRefund({ refund, currency }));
      return reply({ ...viewForStaff(office, found), ...viewLife(life), refunds }, 200, NO_STORE);
    },
  }),
  'POST /v1/admin/orders/:orderNo/cancel': adminCall({
    id: 'cancelOrderForShopper',
    does: 'Cancels an order that was not paid, as its shopper could',
    scope: 'orders:write',
    params: ofOrder,
    body: { schema: decisionBody, isOptional: true },
    replies: { 200: staffOrderReply, 202: staffOrderReply },
    away: 'cancel_unavailable',
    refuses: { unknown: 'order_not_found', undecided: 'status_unavailable' },
    throws: ['already_paid'],
    async answer(office, { params: { orderNo }, body: { reason = null }, actor, ctx }) {
      const recorded = await recordWish(office, orderNo, { actor, reason });
      if ('kind' in recorded) return recorded;
      const { order, state } = recorded;
      if (state.version > 0) await office.projection.project(recorded, requestIdOf(ctx.req));
      if (state.status === 'paid') {
        const extra = { order: viewOrder(office, order, state) };
        throw new Problem('already_paid', { detail: 'The order has been paid: refund it.', extra });
      }
      // The relay signals what was not signalled the first time.
      if (recorded.isNews) office.notifier.cancelRequested(recorded);
      return reply(viewForStaff(office, recorded), isFinal(state.status) ? 200 : 202);
    },
  }),
  'POST /v1/admin/orders/:orderNo/deadline': adminCall({
    id: 'extendDeadline',
    does: 'Gives the shopper of an open order until a later time to pay',
    scope: 'orders:write',
    params: ofOrder,
    body: { schema: deadlineBody },
    replies: { 200: staffOrderReply },
    away: 'decision_unavailable',
    refuses: {
      unknown: 'order_not_found',
      undecided: 'status_unavailable',
      'not-open': 'not_extendable',
      'out-of-range': 'deadline_out_of_range',
    },
    /** The order's workflow needs no signal: it asks MySQL before it cancels the order. */
    async answer(office, { params: { orderNo }, body: { until, reason = null }, actor, ctx }) {
      const extend = () => office.deadlines.extend(orderNo, until, { actor, reason });
      let outcome = await extend();
      if (outcome.kind === 'not-stored') {
        const queued = await findQueued(office, orderNo);
        if ('kind' in queued) return queued;
        if (!isFinal(queued.state.status)) await storeOrAbandon(office, queued);
        outcome = isFinal(queued.state.status) ? { kind: 'not-open', stored: queued } : await extend();
      }
      switch (outcome.kind) {
        case 'extended':
          await office.projection.project(outcome.stored, requestIdOf(ctx.req));
          return reply(viewForStaff(office, outcome.stored));
        case 'out-of-range': {
          const after = new Date(outcome.afterMs).toISOString();
          return { kind: outcome.kind, after, until: new Date(outcome.untilMs).toISOString() };
        }
        case 'not-open': {
          const { order, state } = outcome.stored;
          return { kind: outcome.kind, order: viewOrder(office, order, state) };
        }
        case 'not-stored':
          return { kind: 'unknown' };
        default:
          return outcome satisfies never;
      }
    },
  }),
} satisfies AdminCalls;

type NotFound = { kind: 'unknown' | 'undecided' };

/**
 * The order as Redis has it: accepted, and not stored yet. One that was lost before it was stored is not
 * found: nothing is left of it that staff could look at. undecided: nobody can tell now.
 */
async function findQueued(
  { reservations, lostOrders }: BackOffice,
  orderNo: string,
): Promise<ReservedOrder | NotFound> {
  const { found, isCertain } = await reservations.lookUp(orderNo);
  if (found) return found;
  if (isCertain) return { kind: 'unknown' };
  const missing = await lostOrders.judge(orderNo);
  return { kind: missing === 'undecided' ? missing : 'unknown' };
}

/** A wish to cancel must be durable, so an order that still waits to be stored is stored first. */
async function recordWish(
  office: BackOffice,
  orderNo: string,
  decision: Decision,
): Promise<WishRecorded | NotFound> {
  const { orders } = office;
  const stored = await orders.read(orderNo);
  if (!stored) {
    const queued = await findQueued(office, orderNo);
    if ('kind' in queued) return queued;
    // MySQL has lost it, and it comes back as it was.
    if (isFinal(queued.state.status)) return { ...queued, isNews: false };
    await storeOrAbandon(office, queued);
  }
  return orders.requestCancel(orderNo, decision);
}

function viewForStaff(office: BackOffice, { order, state }: ReservedOrder): StaffOrderReply {
  return { ...viewOrder(office, order, state), userId: order.userId };
}

function viewLife({ stored, payments, reversals, events, parked }: MysqlLife) {
  return {
    workflowStartedAt: stored?.workflow_started_at?.toISOString() ?? null,
    payments: payments.map((payment) => ({
      paymentId: payment.paymentId,
      provider: payment.provider,
      providerPaymentId: payment.providerPaymentId,
      amount: payment.amount,
      currency: payment.currency,
      status: payment.status,
      reason: payment.reason,
      refundTarget: payment.refundTarget,
      refusal: payment.refusal,
      receivedAt: payment.receivedAt.toISOString(),
    })),
    reversals: reversals.map(
      ({ provider_payment_id: providerPaymentId, kind, amount: reversed, currency, ...row }) => ({
        providerPaymentId,
        kind,
        amount: reversed,
        currency,
        status: row.status,
        createdAt: row.created_at.toISOString(),
      }),
    ),
    history: events.map(({ occurred_at: occurredAt, extended_until: extendedUntil, ...event }) => ({
      ...event,
      extendedUntil: extendedUntil?.toISOString() ?? null,
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
