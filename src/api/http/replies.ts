/**
 * Every JSON answer of the API. The handlers' types come from here, and every answer that a test gets is
 * checked against it; in production nothing is checked, for that would cost each caller time.
 */

import { z } from 'zod';
import { orderStateSchema } from '../../domain/order-state-schema.ts';
import { SALE_STATES } from '../../domain/sale.ts';
import { PROBLEM_STATUS, type ProblemCode } from './problem-codes.ts';
import { SCOPES } from './scopes.ts';

/** RFC 3339, in UTC, with milliseconds. */
export const time = z.iso.datetime();
/** Minor units of the currency beside it. */
export const amount = z.int().min(0);
export const count = z.int().min(0);

/** An order, in each answer that shows one. */
export const orderReply = z.strictObject({
  orderNo: z.string(),
  saleId: z.string(),
  ...orderStateSchema.shape,
  /** Of the total; what went back by refunds and lost chargebacks. */
  refunded: amount,
  /** Its end is under way and not decided: a payment may still win. */
  closing: z.boolean(),
  items: z.array(z.strictObject({ sku: z.string(), quantity: z.int().min(1), unitPrice: amount })),
  /** Lines beside the items, negative for a discount; the total is the sum of both. */
  charges: z.array(z.strictObject({ code: z.string(), name: z.string(), amount: z.int() })),
  total: amount,
  /** ISO 4217. */
  currency: z.string().length(3),
  /** The shop's own number of the order; null: it gave none. */
  reference: z.string().nullable(),
  metadata: z.record(z.string(), z.string()),
  reservedAt: time,
  /** Until then a payment can be started. */
  deadline: time,
  /** Milliseconds after which asking again makes sense; null: never, the status is final. */
  pollAfterMs: z.int().min(1).nullable(),
});
export type OrderReply = z.infer<typeof orderReply>;

/** Orders of the caller. `next`: where the next page goes on; null: this is the last. */
export const ordersReply = z.strictObject({ orders: z.array(orderReply), next: z.string().nullable() });
export type OrdersReply = z.infer<typeof ordersReply>;

/** An order where the caller asked for the workflow's view: with what answered. */
export const sourcedOrderReply = orderReply.extend({
  source: z.enum(['workflow', 'database', 'projection']),
});
export type SourcedOrderReply = z.infer<typeof sourcedOrderReply>;

export const sessionReply = z.strictObject({
  orderNo: z.string(),
  /** The provider's page, where the shopper pays. */
  url: z.url(),
  expiresAt: time,
});
export type SessionReply = z.infer<typeof sessionReply>;

/** The shop's own, as it sent them. */
const shopData = {
  reference: z.string().optional(),
  metadata: z.record(z.string(), z.string()).optional(),
};

export const skuReply = z.strictObject({
  sku: z.string(),
  name: z.string(),
  unitPrice: amount,
  limitPerUser: z.int().min(1).nullable(),
  ...shopData,
  total: count,
  available: count,
  held: count,
  sold: count,
});

export const saleReply = z.strictObject({
  saleId: z.string(),
  name: z.string(),
  currency: z.string().length(3),
  opensAt: time,
  closesAt: time,
  paused: z.boolean(),
  /** By the clock by which orders are accepted. */
  state: z.enum(SALE_STATES),
  paymentWindowMs: z.int().min(1),
  /** Of all SKUs together. */
  limitPerUser: z.int().min(1).nullable(),
  /** An order must carry a ticket of the shop's. */
  ticketRequired: z.boolean(),
  ...shopData,
  skus: z.array(skuReply),
});
export type SaleReply = z.infer<typeof saleReply>;

export const refundReply = z.strictObject({ paymentId: z.int().min(1), refund: z.literal('requested') });
export type RefundReply = z.infer<typeof refundReply>;

export const returnStockReply = z.strictObject({ orderNo: z.string(), stock: z.literal('returned') });
export type ReturnStockReply = z.infer<typeof returnStockReply>;

export const healthReply = z.strictObject({ status: z.literal('ok') });
export type HealthReply = z.infer<typeof healthReply>;

const upOrDown = z.enum(['up', 'down']);
export const readyReply = z.strictObject({
  status: z.enum(['ready', 'not_ready']),
  redis: upOrDown,
  mysql: upOrDown,
});
export type ReadyReply = z.infer<typeof readyReply>;

/** The demo's alone. */
export const tokenReply = z.strictObject({
  token: z.string(),
  userId: z.string(),
  saleId: z.string(),
  temporalUiUrl: z.string().nullable(),
});
export type TokenReply = z.infer<typeof tokenReply>;

/**
 * Why a ticket is refused. forged: not signed by the shop, or not for Holdfast. malformed: signed, and not as
 * a ticket must be. nothing_to_pay: its charges bring the total below one minor unit.
 */
const TICKET_FAULTS = [
  'expired',
  'not_yet_valid',
  'other_user',
  'other_sale',
  'other_order',
  'forged',
  'malformed',
  'nothing_to_pay',
] as const;
export type TicketFault = (typeof TICKET_FAULTS)[number];

/** What the problem document of a code has beside the members that all have. */
const problemExtras = {
  invalid_request: z.strictObject({
    faults: z.array(z.strictObject({ path: z.string(), message: z.string() })),
  }),
  forbidden: z.strictObject({ scope: z.enum(SCOPES) }),
  unknown_sku: z.strictObject({ sku: z.string() }),
  sale_not_open_yet: z.strictObject({ opensAt: time }),
  sold_out: z.strictObject({ sku: z.string(), available: count }),
  limit_reached: z.strictObject({ sku: z.string(), limit: count, bought: count }),
  sale_limit_reached: z.strictObject({ limit: count, bought: count }),
  total_changed: z.strictObject({ total: amount, currency: z.string().length(3) }),
  ticket_invalid: z.strictObject({ reason: z.enum(TICKET_FAULTS) }),
  ticket_used: z.strictObject({ orderNo: z.string() }),
  sale_rule_fixed: z.strictObject({ path: z.string(), sku: z.string().optional() }),
  stock_below_committed: z.strictObject({ sku: z.string(), committed: count }),
  version_conflict: z.strictObject({ version: z.int().min(1).nullable() }),
  already_paid: z.strictObject({ order: orderReply }),
  not_payable: z.strictObject({ order: orderReply }),
  refund_exceeds: z.strictObject({ refundable: amount, currency: z.string() }),
  refund_exceeds_units: z.strictObject({ sku: z.string(), refundable: count }),
  position_ahead: z.strictObject({ last: count }),
  position_behind: z.strictObject({ position: count }),
} satisfies { [Code in ProblemCode]?: z.ZodObject };

type Extras = typeof problemExtras;
export type ProblemExtra<Code extends ProblemCode> = Code extends keyof Extras
  ? z.infer<Extras[Code]>
  : never;

/** The problem document (RFC 9457) of this code. */
export function problemReply(code: ProblemCode) {
  const members = z.strictObject({
    type: z.literal('about:blank'),
    title: z.string().min(1),
    status: z.literal(PROBLEM_STATUS[code]),
    code: z.literal(code),
    detail: z.string().min(1),
  });
  const extras: { [code: string]: z.ZodObject } = problemExtras;
  return members.extend(extras[code]?.shape ?? {});
}
