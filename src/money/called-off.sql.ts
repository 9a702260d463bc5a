/** Refunds of paid orders that were called off: requested the ordinary way, under the key of their job. */

import { hash } from 'node:crypto';
import { z } from 'zod';
import { isUnavailable, selectRows, type Pool } from '../mysql/connection.ts';
import { jsonText } from '../orders/content.ts';
import { requestedBefore, type OwnPayment } from './own-payment.ts';
import { refusalSchema, type Refusal, type RefundWish } from './payment.ts';
import { requestByOrder, type RequestRefundOutcome } from './refunds.sql.ts';
import { unitsLeft } from './rows.sql.ts';

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
  const { kind } = await requestByOrder(pool, orderNo, wish, job, key).catch((error: unknown) => {
    // One order whose bookings contradict each other must not keep back the others.
    if (isUnavailable(error)) throw error;
    return { kind: 'failed' as const };
  });
  return { outcome: outcomeOf(kind), isDisputed };
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
function wishOf(own: OwnPayment, { sku, restock }: RefundingJob): RefundWish | 'not-refundable' | undefined {
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
 * What a refund waits for. disputed: until that ends. accepted: the provider has taken it, also where it
 * refused it before, which costs nobody anything. settled: an operator has, by hand, and not one of before.
 * refused: since it was requested, or it keeps failing and an operator is to see to it. Else it is busy.
 */
const WAITS = ['disputed', 'accepted', 'settled', 'refused', 'busy'] as const;
const reversalOf = (
  kind: 'dispute' | 'refund',
) => `EXISTS (SELECT 1 FROM reversals v WHERE v.provider = p.provider
  AND v.provider_payment_id = p.provider_payment_id AND v.kind = '${kind}' AND v.status = 'pending')`;
const parked = (how: string) => `EXISTS (SELECT 1 FROM parked k WHERE k.kind = 'refund'
  AND k.reference = p.provider_payment_id AND ${how})`;
/** Of a refund `r` of a payment `p`. */
const WAIT = `CASE WHEN ${reversalOf('dispute')} THEN 'disputed' WHEN ${reversalOf('refund')} THEN 'accepted'
  WHEN ${parked(`k.resolved_at >= r.created_at AND k.settled_by = 'operator'`)} THEN 'settled'
  WHEN p.refund_refusals > r.refusals_before OR ${parked('k.resolved_at IS NULL')} THEN 'refused' ELSE 'busy' END`;
const REQUESTED = `refunds r FORCE INDEX (refunds_of_key) STRAIGHT_JOIN payments p ON p.payment_id = r.payment_id
  WHERE r.idempotency_key = ? AND r.status = 'requested'`;

const waitRow = z.object({ wait: z.enum(WAITS), refunds: z.coerce.number() });
const askedRow = z.object({ asked: z.coerce.number(), giving: z.coerce.number() });

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
    `SELECT ${WAIT} AS wait, COUNT(*) AS refunds FROM ${REQUESTED} GROUP BY wait`,
    [key],
  );
  const countOf = (one: (typeof WAITS)[number]) => waits.find(({ wait }) => wait === one)?.refunds ?? 0;
  const [row] = await selectRows(
    pool,
    askedRow,
    `SELECT COUNT(*) AS asked,
       COALESCE(SUM(status = 'succeeded' AND NOT given_back AND items IS NOT NULL), 0) AS giving
     FROM refunds FORCE INDEX (refunds_of_key) WHERE idempotency_key = ?`,
    [key],
  );
  const { asked = 0, giving = 0 } = row ?? {};
  const busy = countOf('busy') + giving;
  return { asked, unended: countOf('accepted') + busy, busy, refused: countOf('refused') };
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
    `SELECT r.order_no AS orderNo, ${WAIT} AS cause, r.refusal FROM ${REQUESTED}
       AND ${WAIT} IN ('disputed', 'refused') ORDER BY cause = 'disputed', r.order_no LIMIT ?`,
    [keyOf({ jobId }), limit],
  );
  return rows.map(({ refusal, ...row }) => ({ ...row, ...(refusal && { refusal }) }));
}

const sumRow = z.object({
  status: z.enum(['requested', 'succeeded', 'failed']),
  orders: z.coerce.number(),
  amount: z.coerce.number(),
});

/** The refunds of a job by their status; `amount` in minor units. */
export function sumRefundsOf(pool: Pool, jobId: string): Promise<z.infer<typeof sumRow>[]> {
  return selectRows(
    pool,
    sumRow,
    `SELECT status, COUNT(*) AS orders, SUM(amount) AS amount FROM refunds WHERE idempotency_key = ? GROUP BY status`,
    [keyOf({ jobId })],
  );
}
