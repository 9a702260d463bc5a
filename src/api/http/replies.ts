/**
 * Every JSON answer of the API. The handlers' types come from here, and every answer that a test gets is
 * checked against it; in production nothing is checked, for that would cost each caller time.
 */

import { z } from 'zod';
import { shownContent, orderStateSchema } from '../../domain/content.ts';
import { ORDER_EVENT_TYPES, EVENT_TYPES, DELIVERY_STATUSES } from '../../domain/event.ts';
import { ORDER_STATUSES, PAYMENT_STATES } from '../../domain/order.ts';
import { PAYMENT_STATUSES, REVERSAL_STATUSES } from '../../domain/payment.ts';
import { SHOP_SALE_STATES, SALE_STATES } from '../../domain/sale.ts';
import { PROBLEM_STATUS, type ProblemCode } from './problem-codes.ts';
import { SCOPES } from './scopes.ts';

/** RFC 3339, in UTC, with milliseconds. */
const time = z.iso.datetime();
/** Minor units of the currency beside it. */
const amount = z.int().min(0);
const count = z.int().min(0);

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
  total: amount,
  /** ISO 4217. */
  currency: z.string().length(3),
  ...shownContent,
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

const skuReply = z.strictObject({
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

/** A sale with all that its shop decided, and its stock. */
export const shopSaleReply = saleReply.extend({
  state: z.enum(SHOP_SALE_STATES),
  draft: z.boolean(),
  refundRestoresLimit: z.boolean(),
  /** Of what the shop decided: the `ETag`. */
  version: z.int().min(1),
  /** A change is recorded, and not made yet. */
  pending: z.boolean(),
  skus: z.array(
    skuReply.extend({
      /** Of a closed sale. */
      unsold: count.optional(),
    }),
  ),
});
export type ShopSaleReply = z.infer<typeof shopSaleReply>;

export const salesReply = z.strictObject({
  sales: z.array(shopSaleReply),
  /** For `after`; null: there are no more. */
  next: z.string().nullable(),
});
export type SalesReply = z.infer<typeof salesReply>;

// The answers about orders and refunds that staff get.

export const orderRefundReply = z.strictObject({
  refundId: z.int().min(1),
  orderNo: z.string(),
  /** requested: on its way. failed: it was withdrawn. */
  status: z.enum(['requested', 'succeeded', 'failed']),
  amount,
  currency: z.string().length(3),
  /** The units that it is about; null: it is about money alone. */
  lines: z.array(z.strictObject({ sku: z.string(), quantity: z.int().min(1) })).nullable(),
  /** It covers what the order's charges come to. */
  charges: z.boolean(),
  /** Its units are to be sold again, and are by now. */
  restock: z.boolean(),
  restocked: z.boolean(),
  /** Its units no longer count against the user's limit. */
  restoreLimit: z.boolean(),
  reason: z.string().nullable(),
  actor: z.string(),
  createdAt: time,
  endedAt: time.nullable(),
});
export type OrderRefundReply = z.infer<typeof orderRefundReply>;

export const staffOrderReply = orderReply.extend({ userId: z.string() });
export type StaffOrderReply = z.infer<typeof staffOrderReply>;

/** A page of orders. */
export const staffOrdersReply = z.strictObject({
  orders: z.array(staffOrderReply),
  /** The `after` of the next page; null: this is the last one. */
  next: z.string().nullable(),
});
export type StaffOrdersReply = z.infer<typeof staffOrdersReply>;

/** An order with all that is known of its money, what happened to it, and what waits for an operator. */
export const orderFileReply = staffOrderReply.extend({
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
      receivedAt: time,
    }),
  ),
  /** What went back to the payer or may, by whomever: as the provider reports it. */
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
export type OrderFileReply = z.infer<typeof orderFileReply>;

export const settlementReply = z.strictObject({
  saleId: z.string(),
  lines: z.array(
    z.strictObject({
      line: z.enum(['order', 'charge', 'payment', 'refund', 'dispute', 'fee']),
      orderNo: z.string(),
      /** The provider's id of it, of a fee that of what it is for; or the code of a charge. */
      id: z.string(),
      provider: z.string(),
      /** Minor units; what goes back to the payer, or to the provider, is negative. */
      amount: z.int(),
      currency: z.string().length(3),
      status: z.string(),
      /** The shop's, of the order. */
      reference: z.string(),
      at: time,
    }),
  ),
  /** One a currency; `kept` is `paid` less what went back for sure and the fees. */
  totals: z.array(
    z.strictObject({
      currency: z.string().length(3),
      paid: amount,
      refunded: amount,
      chargedBack: amount,
      fees: z.int(),
      kept: z.int(),
    }),
  ),
});

// The answers about the feed of events.

const sequence = z.int().min(0);

/** An order as of one version. */
const orderSnapshot = orderReply.omit({ closing: true, pollAfterMs: true }).extend({ userId: z.string() });

const common = { id: z.string().min(1), sequence, occurredAt: time };

const eventReply = z.union([
  z.strictObject({
    ...common,
    type: z.enum(ORDER_EVENT_TYPES),
    saleId: z.string(),
    orderNo: z.string(),
    version: z.int().min(1),
    data: z.strictObject({ order: orderSnapshot }),
  }),
  // What became of a sale, or what waits for an operator, as it was recorded, perhaps by a newer version.
  z.strictObject({
    ...common,
    type: z.string().regex(/^(?!order\.)[a-z_]+\.[a-z_]+$/),
    saleId: z.string().nullable(),
    data: z.record(z.string(), z.unknown()),
  }),
]);

export const eventsReply = z.strictObject({
  events: z.array(eventReply),
  /** The `after` of the next call. */
  next: sequence,
});
export type EventsReply = z.infer<typeof eventsReply>;

export const consumerReply = z.strictObject({
  name: z.string(),
  /** The sequence of the last event that it has done with; 0: none. */
  position: sequence,
  /** Events that follow. */
  lag: z.int().min(0),
  updatedAt: time,
});
export type ConsumerReply = z.infer<typeof consumerReply>;

export const consumersReply = z.strictObject({
  consumers: z.array(consumerReply),
  /** The sequence of the last event of all. */
  last: sequence,
});
export type ConsumersReply = z.infer<typeof consumersReply>;

// The answers about endpoints of push.

export const endpointReply = z.strictObject({
  name: z.string(),
  url: z.url(),
  /** Null: all. */
  types: z.array(z.enum(EVENT_TYPES)).nullable(),
  /** Null: of every sale. */
  saleId: z.string().nullable(),
  description: z.string(),
  /** disabled: nothing is sent, and its place in the feed waits. */
  state: z.enum(['active', 'disabled']),
  /** gone: it answered 410. */
  disabledFor: z.enum(['operator', 'gone']).nullable(),
  createdAt: time,
  /** Until then the secret before the current one signs too. */
  rotatingUntil: time.nullable(),
  /** Events of a time are being delivered once more. */
  replaying: z.boolean(),
  health: z.strictObject({
    /** failing: its last attempt failed. down: several did, so that one delivery at a time is tried. */
    state: z.enum(['up', 'failing', 'down']),
    failures: count,
    failingSince: time.nullable(),
    lastSuccessAt: time.nullable(),
    lastError: z.string().nullable(),
    waiting: count,
    /** Since then the oldest delivery waits. */
    waitingSince: time.nullable(),
    /** Events of the feed that are yet to be looked at for it. */
    behind: count,
  }),
});
export type EndpointReply = z.infer<typeof endpointReply>;

/** Shown once: it cannot be asked for later. */
const secret = z.string().startsWith('whsec_');

export const createdEndpointReply = endpointReply.extend({ secret });
export type CreatedEndpointReply = z.infer<typeof createdEndpointReply>;

export const endpointListReply = z.strictObject({ endpoints: z.array(endpointReply) });
export type EndpointListReply = z.infer<typeof endpointListReply>;

export const testReply = z.strictObject({ eventId: z.string() });
export type TestReply = z.infer<typeof testReply>;

/** events: how many are delivered once more; null: those of a time, which are not counted yet. */
export const replayReply = z.strictObject({ events: count.nullable() });
export type ReplayReply = z.infer<typeof replayReply>;

export const deliveriesReply = z.strictObject({
  deliveries: z.array(
    z.strictObject({
      id: z.int().min(1),
      eventId: z.string(),
      /** Null: a test. */
      sequence: z.int().min(1).nullable(),
      status: z.enum(DELIVERY_STATUSES),
      attempts: count,
      /** Null: it has ended, or an earlier one of its order comes first. */
      dueAt: time.nullable(),
      lastError: z.string().nullable(),
      createdAt: time,
      endedAt: time.nullable(),
    }),
  ),
  /** Where the next page begins; null: this was the last. */
  next: z.int().nullable(),
});
export type DeliveriesReply = z.infer<typeof deliveriesReply>;
