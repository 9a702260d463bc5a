/** Orders for staff: found by reference, user or sale, shown whole, and cancelled. */

import { z } from 'zod';
import { MAX_DECISION_CHARS, SALE_ID_PATTERN } from '../../limits.ts';
import { PAYMENT_STATUSES, refusalSchema, REVERSAL_STATUSES } from '../../money/payment.ts';
import { withShown, userIdSchema, referenceSchema } from '../../orders/content.ts';
import { readMysqlLife, type MysqlLife } from '../../orders/life.sql.ts';
import { isFinal, ORDER_STATUSES, parseOrderNo, PAYMENT_STATES } from '../../orders/order.ts';
import type { WishRecorded } from '../../orders/orders.sql.ts';
import type { ReservedOrder } from '../../orders/reservations.redis.ts';
import { formatSaleShard } from '../../redis/keys.ts';
import { parseInput, Problem, requestIdOf, unavailable } from '../http/problem.ts';
import { orderReply, amount, time, count } from '../http/replies.ts';
import { pageLimit } from '../http/request.ts';
import type { AdminCalls, AdminContext, BackOffice } from './call.ts';
import { viewOrder } from './find-order.ts';
import { MAX_ORDERS_LISTED } from './my-orders.ts';
import { orderNoOf, orderUnknown, viewRefund, orderRefundReply } from './refunds.ts';

const staffOrderReply = orderReply.extend({ userId: z.string() });
type StaffOrderReply = z.infer<typeof staffOrderReply>;

/** A page of orders. */
const staffOrdersReply = z.strictObject({
  orders: z.array(staffOrderReply),
  /** The `after` of the next page; null: this is the last one. */
  next: z.string().nullable(),
});
type StaffOrdersReply = z.infer<typeof staffOrdersReply>;

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
  'GET /v1/admin/orders': {
    id: 'findOrders',
    does: 'The orders of a reference, a user or a sale, a page at a time',
    scope: 'orders:read',
    query: listQuery,
    replies: { 200: staffOrdersReply },
    refuses: ['status_unavailable'],
    handle: listOrders,
  },
  'GET /v1/admin/orders/:orderNo': {
    id: 'getOrderFile',
    does: 'An order with its money, what happened to it, and what waits for an operator',
    scope: 'orders:read',
    replies: { 200: orderFileReply },
    refuses: ['order_not_found', 'status_unavailable'],
    handle: showOrderFile,
  },
  'POST /v1/admin/orders/:orderNo/cancel': {
    id: 'cancelOrderForShopper',
    does: 'Cancels an order that was not paid, as its shopper could',
    scope: 'orders:write',
    body: { schema: decisionBody, isOptional: true },
    replies: { 200: staffOrderReply, 202: staffOrderReply },
    refuses: ['order_not_found', 'already_paid', 'cancel_unavailable', 'status_unavailable'],
    handle: cancelOrder,
  },
  'POST /v1/admin/orders/:orderNo/deadline': {
    id: 'extendDeadline',
    does: 'Gives the shopper of an open order until a later time to pay',
    scope: 'orders:write',
    body: { schema: deadlineBody },
    replies: { 200: staffOrderReply },
    refuses: [
      'order_not_found',
      'not_extendable',
      'deadline_out_of_range',
      'decision_unavailable',
      'status_unavailable',
    ],
    handle: extendDeadline,
  },
} satisfies AdminCalls;

async function listOrders(office: BackOffice, ctx: AdminContext): Promise<void> {
  const { limit, status, after, ...filter } = parseInput(listQuery, { ...ctx.query });
  const by = FILTERS.find((name) => filter[name] !== undefined) ?? 'userId';
  const search = { by, value: filter[by] ?? '', status, after };
  const found = await office.staffOrders.list(search, limit).catch(failToRead);
  const last = found.length === limit ? found.at(-1) : undefined;
  ctx.set('Cache-Control', 'no-store');
  ctx.body = {
    orders: found.map((each) => viewForStaff(office, each)),
    next: last?.order.orderNo ?? null,
  } satisfies StaffOrdersReply;
}

async function showOrderFile(office: BackOffice, ctx: AdminContext): Promise<void> {
  const { pool, refunds } = office;
  const orderNo = orderNoOf(ctx);
  const parts = parseOrderNo(orderNo);
  const saleShard = parts ? formatSaleShard(parts) : '';
  const life = await readMysqlLife(pool, orderNo, saleShard).catch(failToRead);
  const found = life.stored ?? (await findQueued(office, orderNo));
  const requested = await refunds.readRefundsOf(orderNo).catch(failToRead);
  const { currency } = found.order;
  ctx.set('Cache-Control', 'no-store');
  ctx.body = {
    ...viewForStaff(office, found),
    ...viewLife(life),
    refunds: requested.map((refund) => viewRefund({ refund, currency })),
  } satisfies OrderFileReply;
}

async function cancelOrder(office: BackOffice, ctx: AdminContext): Promise<void> {
  const orderNo = orderNoOf(ctx);
  const { reason = null } = parseInput(decisionBody, ctx.state.body);
  const recorded = await recordWish(office, orderNo, ctx.state.userId, reason).catch((error: unknown) => {
    if (error instanceof Problem) throw error;
    throw unavailable('cancel_unavailable', 'The order cannot be cancelled right now.', error);
  });
  const { order, state } = recorded;
  if (state.version > 0) await office.projection.project(recorded, requestIdOf(ctx.req));
  if (state.status === 'paid') {
    throw new Problem('already_paid', 'The order has been paid: refund it.', {
      extra: { order: viewOrder(office, order, state) },
    });
  }
  // The relay signals what was not signalled the first time.
  if (recorded.isNews) office.notifier.cancelRequested(recorded);
  ctx.status = isFinal(state.status) ? 200 : 202;
  ctx.body = viewForStaff(office, recorded);
}

/** The order's workflow needs no signal: it asks MySQL before it cancels the order. */
async function extendDeadline(office: BackOffice, ctx: AdminContext): Promise<void> {
  const orderNo = orderNoOf(ctx);
  const { until: untilMs, reason = null } = parseInput(deadlineBody, ctx.state.body);
  const staff = { actor: ctx.state.userId, reason };
  const extend = () => office.deadlines.extend(orderNo, untilMs, staff);
  let outcome = await extend().catch(failToDecide);
  if (outcome.kind === 'not-stored') {
    const queued = await findQueued(office, orderNo);
    const stored = await storeQueued(office, queued).catch(failToDecide);
    outcome = stored ? await extend().catch(failToDecide) : { kind: 'not-open', stored: queued };
  }
  switch (outcome.kind) {
    case 'extended':
      await office.projection.project(outcome.stored, requestIdOf(ctx.req));
      ctx.body = viewForStaff(office, outcome.stored);
      return;
    case 'out-of-range': {
      const [after, latest] = [outcome.afterMs, outcome.untilMs].map((ms) => new Date(ms).toISOString());
      const detail = 'A deadline is extended: to a later time than now, within a day of the reservation.';
      throw new Problem('deadline_out_of_range', detail, {
        extra: { after: after ?? '', until: latest ?? '' },
      });
    }
    case 'not-open': {
      const { order, state } = outcome.stored;
      const extra = { order: viewOrder(office, order, state) };
      throw new Problem('not_extendable', 'The order does not wait for a payment any more.', { extra });
    }
    case 'not-stored':
      throw orderUnknown();
    default:
      outcome satisfies never;
  }
}

/** What staff decide must be durable. @returns false: MySQL refuses the order */
async function storeQueued({ orders }: BackOffice, { order, state }: ReservedOrder): Promise<boolean> {
  const outcome = await orders.storeOrder(withShown(order, state), 'due');
  return outcome.kind !== 'refused';
}

function failToDecide(error: unknown): never {
  throw unavailable('decision_unavailable', 'The deadline cannot be extended right now.', error);
}

/**
 * The order as Redis has it: accepted, and not stored yet. One that was lost before it was stored is not
 * found: nothing is left of it that staff could look at.
 * @throws Problem where there is none
 */
async function findQueued({ reservations, lostOrders }: BackOffice, orderNo: string): Promise<ReservedOrder> {
  const { found, isCertain } = await reservations.lookUp(orderNo).catch(failToRead);
  if (found) return found;
  if (isCertain) throw orderUnknown();
  const missing = await lostOrders.judge(orderNo).catch(failToRead);
  throw missing === 'undecided' ? unreadable(undefined) : orderUnknown();
}

/** A wish to cancel must be durable, so an order that still waits to be stored is stored first. */
async function recordWish(
  office: BackOffice,
  orderNo: string,
  actor: string,
  reason: string | null,
): Promise<WishRecorded> {
  const { orders } = office;
  const stored = await orders.read(orderNo);
  if (!stored) {
    const queued = await findQueued(office, orderNo);
    // MySQL has lost it, and it comes back as it was.
    if (isFinal(queued.state.status)) return { ...queued, isNews: false };
    // Its own workflow meets the refusal and gives the stock back: nothing is left to cancel.
    if (!(await storeQueued(office, queued))) return { ...queued, isNews: false };
  }
  return orders.requestCancel(orderNo, { actor, reason });
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

function failToRead(error: unknown): never {
  throw unreadable(error);
}

function unreadable(error: unknown): Problem {
  return unavailable('status_unavailable', 'The orders cannot be read right now.', error);
}
