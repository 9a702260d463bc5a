/** Orders for staff: found by reference, user or sale, shown whole, and cancelled. */

import { z } from 'zod';
import { PAYMENT_STATUSES, refusalSchema, REVERSAL_STATUSES } from '../../money/payment.ts';
import { storeOrAbandon } from '../../orders/both-stores.ts';
import { userIdSchema, referenceSchema, orderStateSchema, saleIdSchema } from '../../orders/content.ts';
import { readMysqlLife, type MysqlLife } from '../../orders/life.sql.ts';
import { isFinal, ORDER_STATUSES, parseOrderNo } from '../../orders/order.ts';
import type { WishRecorded } from '../../orders/orders.sql.ts';
import type { ReservedOrder } from '../../orders/reservations.redis.ts';
import type { Decision } from '../../parked/parked.sql.ts';
import { formatSaleShard } from '../../redis/keys.ts';
import { reply } from '../http/answer.ts';
import { Problem, requestIdOf } from '../http/problem.ts';
import { orderReply, amount, time, count, nextPage, shownCurrency } from '../http/replies.ts';
import { moment, pageLimit } from '../http/request.ts';
import { adminCall, type AdminCalls, type BackOffice, decisionBody, ofOrder } from './call.ts';
import { viewOrder } from './find-order.ts';
import { MAX_ORDERS_LISTED } from './my-orders.ts';
import { orderRefundReply, paymentIdReply, viewRefund } from './refunds.ts';

const staffOrderReply = orderReply
  .extend({ userId: userIdSchema })
  .meta({ id: 'StaffOrder', description: 'An order, for staff.' });
type StaffOrderReply = z.infer<typeof staffOrderReply>;

const staffOrdersReply = z
  .strictObject({ orders: z.array(staffOrderReply).describe('The orders.'), next: nextPage })
  .meta({ id: 'StaffOrderList', description: 'A page of orders.' });

const paidBy = z.string().meta({ description: "The provider's own id of the payment.", examples: ['pay_1'] });
const stateShape = orderStateSchema.shape;

export const orderFileReply = staffOrderReply
  .extend({
    workflowStartedAt: time
      .nullable()
      .describe(
        'When the workflow of the order began; null: none has begun. A paid order without a workflow needs none.',
      ),
    payments: z
      .array(
        z.strictObject({
          paymentId: paymentIdReply,
          provider: z.string().meta({ description: 'The payment provider.', examples: ['stripe'] }),
          providerPaymentId: paidBy,
          amount,
          currency: shownCurrency,
          status: z
            .enum(PAYMENT_STATUSES)
            .meta({ description: 'The status of the payment.', examples: ['applied'] }),
          reason: z
            .string()
            .nullable()
            .meta({
              description: 'Why it is refunded; null: no refund was requested here.',
              examples: [null],
            }),
          refundTarget: amount.meta({
            description: 'Minor units of the amount that are to go back in all.',
            examples: [0],
          }),
          refusal: refusalSchema.nullable().meta({
            description:
              'What the provider said when it last refused a refund; null: it did not refuse, or has accepted since.',
            examples: [null],
          }),
          receivedAt: time.describe('When the payment was recorded.'),
        }),
      )
      .describe('Payments that name the order, at most 100.'),
    reversals: z
      .array(
        z.strictObject({
          providerPaymentId: paidBy,
          kind: z.enum(['refund', 'dispute']).describe('Whether it is a refund or a dispute.'),
          amount,
          currency: shownCurrency,
          status: z
            .enum(REVERSAL_STATUSES)
            .describe(
              '`succeeded`: the payer has the money back. `failed`: the shop kept it. `pending`: not decided.',
            ),
          createdAt: time.describe('When it was recorded.'),
        }),
      )
      .describe('Refunds and disputes that the provider reports, at most 100.'),
    refunds: z.array(orderRefundReply).describe('Refunds that staff requested, at most 100.'),
    history: z
      .array(
        z.strictObject({
          version: stateShape.version.min(1),
          status: stateShape.status,
          payment: stateShape.payment,
          refunded: amount.meta({ description: 'Minor units of the total that went back.', examples: [0] }),
          reason: z
            .string()
            .nullable()
            .meta({
              description:
                'Why the order is closing, was cancelled or has failed; null: it is none of these.',
              examples: [null],
            }),
          extendedUntil: time.nullable().meta({
            description: 'The deadline that staff set; null: they have not extended it.',
            examples: [null],
          }),
          occurredAt: time.describe('When it changed.'),
        }),
      )
      .describe('Each version of the order, at most 100.'),
    parked: z
      .array(
        z.strictObject({
          parkedId: z.int().min(1).describe('The number of the entry.'),
          kind: z.string().meta({ description: 'What is parked.', examples: ['payment'] }),
          cause: z.string().meta({ description: 'Why, for programs.', examples: ['wrong_amount'] }),
          reason: z.string().meta({
            description: 'Why, for operators.',
            examples: ['4900 USD were paid for an order of 10295 EUR.'],
          }),
          times: count.describe('How often it failed.'),
          since: time.describe('When it was parked.'),
          resolvedAt: time.nullable().describe('When it was resolved; null: it waits for an operator.'),
        }),
      )
      .describe('What waits for an operator about the order or its money, or did, at most 100.'),
  })
  .meta({
    id: 'OrderFile',
    description: 'An order with its money, what happened to it, and what waits for an operator.',
  });
type OrderFileReply = z.infer<typeof orderFileReply>;

const deadlineBody = decisionBody
  .extend({
    until: moment.describe('The new deadline: RFC 3339, with any offset.'),
  })
  .meta({ examples: [{ until: '2026-11-21T11:00:00.000Z', reason: 'The bank was down.' }] });

const FILTERS = ['reference', 'userId', 'saleId'] as const;
const listQuery = z
  .strictObject({
    reference: referenceSchema
      .optional()
      .describe("Those of this number of the shop's. One of these three is given."),
    userId: userIdSchema.optional().describe('Those of this user.'),
    saleId: saleIdSchema.optional().describe('Those of this sale.'),
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
      return reply({ orders, next: last?.order.orderNo ?? null });
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
      return reply({ ...viewForStaff(office, found), ...viewLife(life), refunds });
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
