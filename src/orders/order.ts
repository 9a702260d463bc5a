/**
 * An order's number, its states and its times. Workflows import this file, so it loads no validator: what an
 * order consists of, `content.ts` describes.
 */

/**
 * queued: accepted and held in Redis, not yet durable in MySQL.
 * awaiting_payment: stored in MySQL; the shopper may pay until `deadline`.
 * paid, cancelled, failed: final, each with its stock settled.
 */
export const ORDER_STATUSES = ['queued', 'awaiting_payment', 'paid', 'cancelled', 'failed'] as const;
export type OrderStatus = (typeof ORDER_STATUSES)[number];

/**
 * What is known of the order's money. applied: a payment has paid for the order. disputed: a chargeback is
 * open. partially_refunded: a part of the money went back. A paid order stays paid whatever becomes of its
 * money, and its stock comes back only if an operator decides so.
 */
export const PAYMENT_STATES = ['none', 'applied', 'disputed', 'partially_refunded', 'refunded'] as const;
type PaymentState = (typeof PAYMENT_STATES)[number];

/**
 * Why an order was cancelled. wait_timeout: it was not stored in time, and its caller had said not to wait
 * longer. called_off: with its sale, or with a SKU that it has.
 */
export const CLOSING_REASONS = [
  'payment_timeout',
  'shopper_request',
  'wait_timeout',
  'operator_request',
  'called_off',
] as const;
export type ClosingReason = (typeof CLOSING_REASONS)[number];

/**
 * Why an order failed: it was abandoned before it was stored, and its stock went back. `lost_before_stored`
 * is never recorded: it is the answer about an order that was lost with the data of Redis.
 */
export const FAILURE_REASONS = [
  'duplicate_request',
  'unknown_sku',
  'stock_exhausted',
  'lost_hold',
  'lost_before_stored',
  'invalid_order',
  'store_unavailable',
] as const;
export type FailureReason = (typeof FAILURE_REASONS)[number];

/** What changes about an order. `version` grows by one a change, and only MySQL assigns it (queued = 0). */
export interface OrderState {
  status: OrderStatus;
  version: number;
  payment: PaymentState;
  /** Set once the order is closing or has ended without being paid. */
  reason: ClosingReason | FailureReason | null;
  /**
   * Minor units of the order's own payment that went back to the payer, by refunds and lost chargebacks;
   * absent: nothing did.
   */
  refunded?: number;
  /** Unix time in ms to which staff have extended the deadline; absent: they have not. */
  extendedUntilMs?: number;
}

/** The state that a change gave an order, as MySQL has it. */
export interface OrderChange {
  orderNo: string;
  state: OrderState;
}

/** Units of an order, of one SKU. */
export interface OrderUnits {
  sku: string;
  quantity: number;
}

/** What a refunded order gives back to its sale. MySQL has committed it, and Redis is updated afterwards. */
export interface GiveBack {
  orderNo: string;
  userId: string;
  /** The refund that it belongs to, or what it is beside all refunds. Each comes back once. */
  part: string;
  items: OrderUnits[];
  /** The user may buy as many units again. */
  limit: boolean;
  /** The units may be sold again. */
  stock: boolean;
}

/** The parts of an order number. The order's Redis keys follow from `saleId`, `shard` and `epoch`. */
export interface OrderNoParts {
  saleId: string;
  shard: number;
  epoch: number;
  ulid: string;
}

/** When an order was accepted (Unix ms, by Redis' clock), and for how long it may be paid (ms). */
interface Window {
  reservedAtMs: number;
  paymentWindowMs: number;
}

/**
 * Unix time in ms until which a payment session may be opened. It is the deadline that the shopper sees.
 * @param state absent: of an order that was accepted just now, whose deadline nobody has extended
 */
export function orderDeadlineMs(
  { reservedAtMs, paymentWindowMs }: Window,
  state: Pick<OrderState, 'extendedUntilMs'> = {},
): number {
  return state.extendedUntilMs ?? reservedAtMs + paymentWindowMs;
}

/**
 * Whether a workflow that has not begun by now is not to be begun any more, without money or a wish to
 * cancel: its own window would end long after the deadline, at which the order is ended without one.
 * @param nowMs by Redis' clock (Unix ms)
 */
export function isTooLateToBegin({ reservedAtMs, paymentWindowMs }: Window, nowMs: number): boolean {
  return nowMs >= reservedAtMs + paymentWindowMs / 3;
}

/** An order that costs nothing is paid by the transaction that stores it. */
export function isFree({ total }: { total: number }): boolean {
  return total === 0;
}

/**
 * Whether a hold ended unpaid because its user let it: by time-out, or at their own wish. What staff ended,
 * what could not be stored, or not in time, and what was called off is not theirs.
 */
export function isLeftUnpaid({ status, reason }: Pick<OrderState, 'status' | 'reason'>): boolean {
  return status === 'cancelled' && (reason === 'payment_timeout' || reason === 'shopper_request');
}

/** The statuses that never change again. */
export const FINAL_STATUSES = ['paid', 'cancelled', 'failed'] as const satisfies OrderStatus[];

export function isFinal(status: OrderStatus): boolean {
  return FINAL_STATUSES.some((final) => final === status);
}

/** The state of an order's hold in Redis, once Redis has what MySQL has. */
export function expectedHold(status: OrderStatus): 'held' | 'sold' | 'released' {
  if (!isFinal(status)) return 'held';
  return status === 'paid' ? 'sold' : 'released';
}

/** The epoch in which the order's stock was reserved; 0 for what is no order number. */
export function holdEpochOf({ orderNo, holdEpoch }: { orderNo: string; holdEpoch?: number }): number {
  return holdEpoch ?? parseOrderNo(orderNo)?.epoch ?? 0;
}

export function formatOrderNo(parts: OrderNoParts): string {
  return `${parts.saleId}-${parts.shard}-${parts.epoch}-${parts.ulid}`;
}

/**
 * Bounds of the next order numbers of a sale: greater than the first, less than the last. The numbers of the
 * sale `summer-2` begin with `summer-` too, and lie outside: there is one shard, and epochs begin with 1.
 * Those of a sale `summer-0-5` lie inside, so a reader also asks for the sale. It forces the index of the
 * numbers: by another one the server may read and sort the whole sale for each page.
 * @param after the last number of the page before; empty: from the first on
 */
export function boundsOfSale(saleId: string, after: string): [first: string, last: string] {
  const first = `${saleId}-0-1`;
  return [after > first ? after : first, `${saleId}-0-:`];
}

/** As `formatOrderNo` writes it, and in no other way. The first sign of a ULID has three bits. */
export const ORDER_NO_PATTERN =
  /^([a-z0-9]+(?:-[a-z0-9]+)*)-(0|[1-9]\d{0,2})-([1-9]\d{0,8})-([0-7][0-9A-HJKMNP-TV-Z]{25})$/;

/** Undefined when `text` is no order number, so that callers answer "not found" and not with an error. */
export function parseOrderNo(text: string): OrderNoParts | undefined {
  const match = ORDER_NO_PATTERN.exec(text);
  if (!match) return undefined;
  const [, saleId, shard, epoch, ulid] = match;
  if (saleId === undefined || ulid === undefined || saleId.length > 32) return undefined;
  return { saleId, shard: Number(shard), epoch: Number(epoch), ulid };
}
