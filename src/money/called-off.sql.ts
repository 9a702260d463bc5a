/** Refunds of paid orders that were called off: requested the ordinary way, under the key of their job. */

import { hash } from 'node:crypto';
import { z } from 'zod';
import { inTransaction, isUnavailable, modify, selectRows, type Pool } from '../mysql/connection.ts';
import { jsonText } from '../orders/content.ts';
import { readOrders } from '../orders/rows.sql.ts';
import { decideRefund, requestedBefore, toOwnPayment, type OwnPayment } from './own-payment.ts';
import { refusalSchema, type Refusal, type RefundWish } from './payment.ts';
import { requestByOrder, type RequestRefundOutcome } from './refunds.sql.ts';
import { reversalColumns } from './reversals.sql.ts';
import { IS_GIVE_BACK_DUE, selectPayments, selectRefunds, unitsLeft } from './rows.sql.ts';

/** For what refunds are requested. */
export interface RefundingJob {
  jobId: string;
  /** Empty: the sale as a whole. */
  sku: string;
  restock: boolean;
  actor: string;
  reason: string | null;
}

/**
 * requested: by this call or an earlier one. nothing: no money of it is left to be asked for. Else it cannot
 * be asked for.
 */
export type CalledOffRefund = 'requested' | 'nothing' | 'not_refundable' | 'too_many_refunds' | 'failed';

export function keyOf({ jobId }: Pick<RefundingJob, 'jobId'>): string {
  return `call-off-${jobId}`;
}

/**
 * All that is left of the order, or what is left of the SKU. A repeat asks for nothing more.
 * @returns isDisputed: under the order's lock; undefined: it was not looked at
 * @throws when MySQL is away
 */
export async function requestCalledOff(
  pool: Pool,
  orderNo: string,
  job: RefundingJob,
): Promise<{ outcome: CalledOffRefund; isDisputed: boolean | undefined }> {
  const idempotencyKey = keyOf(job);
  const key = { idempotencyKey, fingerprint: hash('sha256', idempotencyKey, 'base64url') };
  let isDisputed: boolean | undefined;
  const wish = (own: OwnPayment) => {
    isDisputed = own.stored.state.payment === 'disputed';
    return wishOf(own, job);
  };
  const { kind } = await inTransaction(pool, async (connection) => {
    const outcome = await requestByOrder(connection, orderNo, wish, job, key);
    if (outcome.kind === 'requested')
      await modify(
        connection,
        'UPDATE calling_offs SET asked_orders = asked_orders + 1, asked_amount = asked_amount + ? WHERE job_id = ?',
        [outcome.refund.amount, job.jobId],
      );
    return outcome;
  }).catch((error: unknown) => {
    // One order whose bookings contradict each other must not keep back the others.
    if (isUnavailable(error)) throw error;
    return { kind: 'failed' as const };
  });
  return { outcome: outcomeOf(kind), isDisputed };
}

/** What calling off would do about paid orders, in minor units of each. */
export interface RefundPreview {
  /** Of those whose money it would ask back: so much. */
  paid: number[];
  /** Of those about which a dispute is open: so much cannot go back for that. */
  disputed: number[];
}

/** Decides as `requestCalledOff` would, and changes nothing. */
export async function previewRefunds(
  pool: Pool,
  orderNos: readonly string[],
  sku: string,
): Promise<RefundPreview> {
  const amountOf = (own: OwnPayment): number | undefined => {
    const decided = decideRefund(own, (one) => wishOf(one, { sku, restock: false }));
    return decided.kind === 'refund' ? decided.amount : undefined;
  };
  const preview: RefundPreview = { paid: [], disputed: [] };
  for (const own of await readOwnPayments(pool, orderNos)) {
    const amount = amountOf(own);
    if (amount !== undefined) preview.paid.push(amount);
    const undisputed = own.stored.state.payment === 'disputed' && { ...own, refundable: own.payment.amount };
    if (undisputed) preview.disputed.push((amountOf(undisputed) ?? 0) - (amount ?? 0));
  }
  return preview;
}

const reversalRow = z.object({ order_no: z.string(), ...reversalColumns });

/** Without locks. */
async function readOwnPayments(pool: Pool, orderNos: readonly string[]): Promise<OwnPayment[]> {
  if (orderNos.length === 0) return [];
  const [orders, payments, refunds, reversals] = await Promise.all([
    readOrders(pool, orderNos),
    selectPayments(
      pool,
      'order_no IN (?) AND applied_at IS NOT NULL',
      [orderNos],
      ' FORCE INDEX (payments_of_order)',
    ),
    selectRefunds(pool, `order_no IN (?) AND kind = 'request' ORDER BY refund_id`, [orderNos]),
    selectRows(
      pool,
      reversalRow,
      `SELECT p.order_no, v.kind, v.amount, v.currency, v.status FROM payments p FORCE INDEX (payments_of_order)
       STRAIGHT_JOIN reversals v FORCE INDEX (reversals_of_payment)
         ON v.provider = p.provider AND v.provider_payment_id = p.provider_payment_id
       WHERE p.order_no IN (?) AND p.applied_at IS NOT NULL`,
      [orderNos],
    ),
  ]);
  const paymentOf = new Map(payments.map((payment) => [payment.orderNo, payment]));
  return orders.flatMap((stored) => {
    const { orderNo } = stored.order;
    const payment = paymentOf.get(orderNo);
    if (!payment) return [];
    const ownRefunds = refunds.filter((refund) => refund.orderNo === orderNo);
    const ownReversals = reversals.filter((reversal) => reversal.order_no === orderNo);
    return [toOwnPayment(payment, stored, ownRefunds, ownReversals)];
  });
}

function outcomeOf(kind: RequestRefundOutcome['kind'] | 'failed'): CalledOffRefund {
  switch (kind) {
    case 'failed':
      return kind;
    case 'requested':
    case 'repeated':
      return 'requested';
    case 'exceeds':
    case 'no-units':
      return 'nothing';
    case 'too-many':
      return 'too_many_refunds';
    // Money went back in another currency or unasked; no payment of ours has paid for it; staff used the key.
    case 'not-refundable':
    case 'unknown':
    case 'key-reused':
    case 'charges-refunded':
    case 'not-taken':
      return 'not_refundable';
    default:
      return kind satisfies never;
  }
}

/**
 * Of a SKU its lines, at their price; where nothing else of the order is left, all of its money, with the
 * charges. A free order gives its units back alone. Where money went back that was not asked for here, a
 * person decides.
 */
function wishOf(
  own: OwnPayment,
  { sku, restock }: Pick<RefundingJob, 'sku' | 'restock'>,
): RefundWish | 'not-refundable' | undefined {
  const { payment, stored, refunds, refundable } = own;
  const left = unitsLeft(stored.order, refunds);
  const isAll = left.every((line) => sku === '' || line.sku === sku);
  const items = left.filter((line) => sku === '' || line.sku === sku);
  if (sku !== '' && items.length === 0) return undefined;
  const rule = { restock, restoresLimit: undefined };
  if (payment.amount === 0)
    return items.length === 0 ? undefined : { ...rule, kind: 'units', items, amount: 0, charges: false };
  const money = refundable - requestedBefore(own, isAll);
  if (money <= 0) return undefined;
  if (isAll) return { ...rule, kind: 'all' };
  // Nothing says for which units that money went back: it may be for these.
  if (own.refunding > payment.refundTarget) return 'not-refundable';
  const prices = new Map(stored.order.items.map((item) => [item.sku, item.unitPrice]));
  const price = items.reduce((sum, line) => sum + line.quantity * (prices.get(line.sku) ?? 0), 0);
  // Some of it may have gone back before, or be disputed.
  return { ...rule, kind: 'units', items, amount: Math.min(price, money), charges: false };
}

/**
 * What a refund waits for that the provider has not accepted. disputed: until that ends. settled: an operator
 * paid it out by hand after it was requested. refused: since it was requested, or it keeps failing and an
 * operator is to see to it. Else it is busy.
 */
const WAITS = ['disputed', 'settled', 'refused', 'busy'] as const;
const DISPUTED = `EXISTS (SELECT 1 FROM reversals v WHERE v.provider = p.provider
  AND v.provider_payment_id = p.provider_payment_id AND v.kind = 'dispute' AND v.status = 'pending')`;
const parked = (how: string) => `EXISTS (SELECT 1 FROM parked k WHERE k.kind = 'refund'
  AND k.reference = p.provider_payment_id AND ${how})`;
/** Of a refund `r` of a payment `p`. */
const WAIT = `CASE WHEN ${DISPUTED} THEN 'disputed'
  WHEN ${parked(`k.resolved_at >= r.created_at AND k.settled_by = 'operator'`)} THEN 'settled'
  WHEN p.refund_refusals > r.refusals_before OR ${parked('k.resolved_at IS NULL')} THEN 'refused' ELSE 'busy' END`;
/** Accepted ones may wait for the provider for days, however many they are: they are not read. */
const WAITING = `refunds r FORCE INDEX (refunds_of_key) STRAIGHT_JOIN payments p ON p.payment_id = r.payment_id
  WHERE r.idempotency_key = ? AND r.status = 'requested' AND r.accepted = FALSE`;

const waitRow = z.object({ wait: z.enum(WAITS), refunds: z.coerce.number() });
const askedRow = z.object({
  asked: z.coerce.number(),
  accepted: z.coerce.number(),
  giving: z.coerce.number(),
});

/** What a job has asked for and has not ended. Disputed and refused ones are listed instead. */
export interface PendingRefunds {
  /** In all, those that have ended too. */
  asked: number;
  /** The payer does not have the money yet, or its units are not given back. */
  unended: number;
  /** Of those, what is worked on. */
  busy: number;
  refused: number;
}

export async function countPending(pool: Pool, jobId: string): Promise<PendingRefunds> {
  const key = keyOf({ jobId });
  const waits = await selectRows(
    pool,
    waitRow,
    `SELECT ${WAIT} AS wait, COUNT(*) AS refunds FROM ${WAITING} GROUP BY wait`,
    [key],
  );
  const countOf = (one: (typeof WAITS)[number]) => waits.find(({ wait }) => wait === one)?.refunds ?? 0;
  const ofKey = 'FROM refunds FORCE INDEX (refunds_of_key) WHERE idempotency_key = ?';
  const [row] = await selectRows(
    pool,
    askedRow,
    `SELECT COALESCE((SELECT asked_orders FROM calling_offs WHERE job_id = ?), 0) AS asked,
       (SELECT COUNT(*) ${ofKey} AND status = 'requested' AND accepted = TRUE) AS accepted,
       (SELECT COUNT(*) ${ofKey} AND accepted = TRUE AND ${IS_GIVE_BACK_DUE}) AS giving`,
    [jobId, key, key],
  );
  const { asked = 0, accepted = 0, giving = 0 } = row ?? {};
  const busy = countOf('busy') + giving;
  return { asked, unended: accepted + busy, busy, refused: countOf('refused') };
}

const stuckRow = z.object({
  orderNo: z.string(),
  cause: z.enum(['disputed', 'refused']),
  refusal: jsonText(refusalSchema).nullable(),
});

type StuckRefund = Omit<z.infer<typeof stuckRow>, 'refusal'> & { refusal?: Refusal };

/** Orders whose refund was requested and does not go on: first those that the provider refuses. */
export async function listStuck(pool: Pool, jobId: string, limit: number): Promise<StuckRefund[]> {
  const rows = await selectRows(
    pool,
    stuckRow,
    `SELECT r.order_no AS orderNo, ${WAIT} AS cause, r.refusal FROM ${WAITING}
       AND ${WAIT} IN ('disputed', 'refused') ORDER BY cause = 'disputed', r.order_no LIMIT ?`,
    [keyOf({ jobId }), limit],
  );
  return rows.map(({ refusal, ...row }) => ({ ...row, ...(refusal && { refusal }) }));
}
