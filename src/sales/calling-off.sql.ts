/**
 * Sales and SKUs that are called off for good. The mark here comes first: from its commit on each order that
 * is stored is closed. Its job then goes on from here, however often its workflow is lost.
 */

import { ulid } from 'ulidx';
import { z } from 'zod';
import type { Refusal } from '../money/payment.ts';
import {
  inTransaction,
  modify,
  selectRows,
  type Executor,
  type Pool,
  type PoolConnection,
} from '../mysql/connection.ts';
import { ofSku, type CalledOff } from '../orders/called-off.sql.ts';
import { recordAction, type Decision } from '../parked/parked.sql.ts';
import { lockSale, readSale, recordShopEvent, type SaleRecord } from './rows.sql.ts';
import { snapshotSale } from './sale.ts';

const jobRow = z.object({
  jobId: z.string(),
  saleId: z.string(),
  sku: z.string(),
  restock: z.coerce.boolean(),
  actor: z.string(),
  reason: z.string().nullable(),
  passes: z.int(),
  calledOffAt: z.date(),
  endedAt: z.date().nullable(),
});
const JOB = `job_id AS jobId, sale_id AS saleId, sku, restock, actor, reason, passes, called_off_at AS calledOffAt,
  ended_at AS endedAt`;

/** What was called off, and how far its job is. `sku`: empty: the sale as a whole. */
export type CallOffJob = z.infer<typeof jobRow>;

/** What is called off, by whom and why. */
export type CallOffTerms = Pick<CallOffJob, 'saleId' | 'sku' | 'restock' | 'actor' | 'reason'>;

/** otherwise: with other terms, or it is called off with its sale. */
export type CallOffOutcome =
  | { kind: 'called-off' | 'repeated'; job: CallOffJob }
  | { kind: 'unknown' | 'unknown-sku' | 'draft' | 'otherwise' };

/** Marks the sale, or a SKU of it, for good. A repeat answers with the same job. */
export function callOff(
  pool: Pool,
  { saleId, sku }: CalledOff,
  restock: boolean,
  decision: Decision,
): Promise<CallOffOutcome> {
  return inTransaction(pool, async (connection): Promise<CallOffOutcome> => {
    const found = await lockSale(connection, saleId);
    if (!found) return { kind: 'unknown' };
    if (found.isDraft) return { kind: 'draft' };
    const jobs = await selectJobs(connection, 'sale_id = ?', [saleId]);
    const earlier = jobs.find((job) => job.sku === sku);
    if (earlier)
      return earlier.restock === restock ? { kind: 'repeated', job: earlier } : { kind: 'otherwise' };
    if (jobs.some((job) => job.sku === '')) return { kind: 'otherwise' };
    if (sku !== '' && !found.sale.skus.some((item) => item.sku === sku)) return { kind: 'unknown-sku' };
    const terms: CallOffTerms = { saleId, sku, restock, actor: decision.actor, reason: decision.reason };
    return { kind: 'called-off', job: await writeJob(connection, found, ulid(), terms) };
  });
}

/**
 * Writes a job again that MySQL has lost, with its mark, its action and its event. A repeat changes nothing.
 * @returns undefined: the sale is lost as well, or another job has called the same off since
 */
export function restoreJob(pool: Pool, jobId: string, terms: CallOffTerms): Promise<CallOffJob | undefined> {
  return inTransaction(pool, async (connection) => {
    const found = await lockSale(connection, terms.saleId);
    if (!found) return undefined;
    const jobs = await selectJobs(connection, 'sale_id = ?', [terms.saleId]);
    const job = jobs.find((one) => one.jobId === jobId);
    if (job) return job;
    // Of the sale as a whole: it closes and refunds the orders of each SKU too.
    if (jobs.some(({ sku }) => sku === terms.sku || sku === '')) return undefined;
    return writeJob(connection, found, jobId, terms);
  });
}

/** With the mark on its sale, which is locked. */
async function writeJob(
  connection: PoolConnection,
  found: SaleRecord,
  jobId: string,
  { saleId, sku, restock, actor, reason }: CallOffTerms,
): Promise<CallOffJob> {
  await modify(
    connection,
    'INSERT INTO calling_offs (job_id, sale_id, sku, restock, actor, reason) VALUES (?, ?, ?, ?, ?, ?)',
    [jobId, saleId, sku, restock, actor, reason],
  );
  const mark = sku === '' || found.calledOff === 'sale' ? 'sale' : 'skus';
  await modify(connection, 'UPDATE sales SET called_off = ? WHERE sale_id = ?', [mark, saleId]);
  const callingOff = { jobId, sku: sku === '' ? null : sku, restock };
  const subject = `sale ${saleId}`;
  await recordAction(connection, { actor, reason, action: 'called_off', subject, detail: callingOff });
  const data = { sale: snapshotSale(found, found.stock), callOff: callingOff };
  await recordShopEvent(connection, { type: 'sale.called_off', saleId, subject: saleId, data });
  const [job] = await selectJobs(connection, 'job_id = ?', [jobId]);
  if (!job) throw new Error(`job ${jobId} was written in this transaction`);
  return job;
}

export async function readJob(pool: Pool, jobId: string): Promise<CallOffJob | undefined> {
  return (await selectJobs(pool, 'job_id = ?', [jobId]))[0];
}

/** The job of the sale as a whole; or of one SKU, where that has none of its own, of its sale. */
export async function findJob(pool: Pool, { saleId, sku }: CalledOff): Promise<CallOffJob | undefined> {
  const condition = `sale_id = ? AND sku IN (?, '') ORDER BY sku DESC LIMIT 1`;
  return (await selectJobs(pool, condition, [saleId, sku]))[0];
}

/** Those that have not ended, the oldest first. */
export function listOpenJobs(
  pool: Pool,
  after: Pick<CallOffJob, 'jobId'> | undefined,
  limit: number,
): Promise<CallOffJob[]> {
  const condition = 'ended_at IS NULL AND job_id > ? ORDER BY job_id LIMIT ?';
  return selectJobs(pool, condition, [after?.jobId ?? '', limit]);
}

function selectJobs(reader: Executor, condition: string, values: unknown[]): Promise<CallOffJob[]> {
  return selectRows(reader, jobRow, `SELECT ${JOB} FROM calling_offs WHERE ${condition}`, values);
}

/** A pass over all orders is done. */
export async function countPass(pool: Pool, jobId: string): Promise<void> {
  await modify(pool, 'UPDATE calling_offs SET passes = passes + 1 WHERE job_id = ? AND ended_at IS NULL', [
    jobId,
  ]);
}

/** A pass begins. What is stored from now on, and it may miss, is news. */
export async function beginPass(pool: Pool, jobId: string): Promise<void> {
  await modify(pool, 'UPDATE calling_offs SET news = FALSE WHERE job_id = ?', [jobId]);
}

/**
 * The last pass has found nothing left. A repeat changes nothing.
 * @returns false: there is news since that pass began, so another is due
 */
export function endJob(pool: Pool, jobId: string): Promise<boolean> {
  return inTransaction(pool, async (connection) => {
    const [job] = await selectJobs(connection, 'job_id = ? FOR UPDATE', [jobId]);
    if (!job || job.endedAt) return true;
    const { saleId, sku, restock, passes } = job;
    const sql = 'UPDATE calling_offs SET ended_at = NOW(3) WHERE job_id = ? AND NOT news';
    if ((await modify(connection, sql, [jobId])) === 0) return false;
    const callingOff = { jobId, sku: sku === '' ? null : sku, restock };
    await recordAction(connection, {
      actor: 'holdfast',
      reason: null,
      action: 'call_off_ended',
      subject: `sale ${saleId}`,
      detail: { ...callingOff, passes },
    });
    const data = { callOff: callingOff };
    await recordShopEvent(connection, { type: 'sale.call_off_ended', saleId, subject: saleId, data });
    return true;
  });
}

/** Why money of a paid order does not go back by its job. */
export const EXCEPTION_CAUSES = [
  'disputed',
  'refused',
  'not_refundable',
  'too_many_refunds',
  'failed',
] as const;
export type ExceptionCause = (typeof EXCEPTION_CAUSES)[number];

/** @param cause undefined: it is none any more */
export async function noteException(
  pool: Pool,
  jobId: string,
  orderNo: string,
  cause: ExceptionCause | undefined,
): Promise<void> {
  if (cause === undefined)
    await modify(pool, 'DELETE FROM calling_off_exceptions WHERE job_id = ? AND order_no = ?', [
      jobId,
      orderNo,
    ]);
  else
    await modify(
      pool,
      `INSERT INTO calling_off_exceptions (job_id, order_no, cause) VALUES (?, ?, ?)
       ON DUPLICATE KEY UPDATE cause = VALUES(cause)`,
      [jobId, orderNo, cause],
    );
}

const exceptionRow = z.object({ orderNo: z.string(), cause: z.enum(EXCEPTION_CAUSES) });

const countRow = z.object({ status: z.string(), orders: z.coerce.number(), amount: z.coerce.number() });
const sumRow = z.object({ orders: z.coerce.number(), amount: z.coerce.number() });
const currencyRow = z.object({ currency: z.string() });

/** `amount` in minor units. */
export type Sum = z.infer<typeof sumRow>;
export type CallOffException = z.infer<typeof exceptionRow> & {
  /** What the provider said when it refused. */
  refusal?: Refusal;
};

const NOTHING: Sum = { orders: 0, amount: 0 };

/** What became of the orders that were not paid. */
export interface UnpaidOrders {
  currency: string;
  /** Open yet. */
  open: Sum;
  /** Because it was called off. */
  cancelled: Sum;
  /** Payments that came for orders that were closed already, and go back. */
  late: Sum;
}

/** @throws when MySQL is away */
export async function readUnpaid(pool: Pool, { saleId, sku }: CalledOff): Promise<UnpaidOrders> {
  const values = sku === '' ? [saleId] : [sku, saleId];
  const [[sale], counts, [late]] = await Promise.all([
    selectRows(pool, currencyRow, 'SELECT currency FROM sales WHERE sale_id = ?', [saleId]),
    selectRows(
      pool,
      countRow,
      `SELECT o.status, COUNT(*) AS orders, SUM(o.total) AS amount
       FROM orders o FORCE INDEX (orders_of_sale_status) ${ofSku(sku)}
       WHERE o.sale_id = ? AND (o.status = 'awaiting_payment'
         OR (o.status = 'cancelled' AND o.closing_reason = 'called_off')) GROUP BY o.status`,
      values,
    ),
    selectRows(
      pool,
      sumRow,
      `SELECT COUNT(*) AS orders, COALESCE(SUM(p.amount), 0) AS amount
       FROM orders o FORCE INDEX (orders_of_sale_status) ${ofSku(sku)}
       STRAIGHT_JOIN payments p ON p.order_no = o.order_no AND p.refund_reason IN ('called_off', 'order_ended')
       WHERE o.sale_id = ? AND o.status IN ('awaiting_payment', 'cancelled') AND o.closing_reason = 'called_off'`,
      values,
    ),
  ]);
  const sumOf = (status: string): Sum => {
    const { orders, amount } = counts.find((row) => row.status === status) ?? NOTHING;
    return { orders, amount };
  };
  const currency = sale?.currency ?? '';
  return { currency, open: sumOf('awaiting_payment'), cancelled: sumOf('cancelled'), late: late ?? NOTHING };
}

/**
 * Orders of which a job could not ask the money back, as far as it is not back by now; the first of them, and
 * before all those that wait for nobody.
 */
export function listExceptions(pool: Pool, jobId: string, limit: number): Promise<CallOffException[]> {
  return selectRows(
    pool,
    exceptionRow,
    `SELECT e.order_no AS orderNo, e.cause FROM calling_off_exceptions e
     STRAIGHT_JOIN orders o ON o.order_no = e.order_no AND o.payment <> 'refunded'
     WHERE e.job_id = ? ORDER BY e.cause = 'disputed', e.order_no LIMIT ?`,
    [jobId, limit],
  );
}

/** What calling off would do now. */
export interface CallOffPreview {
  currency: string;
  /** Open orders, which would be cancelled. */
  open: Sum;
  /** Paid ones, and what of their money would go back; some may be disputed. */
  paid: Sum;
  /** Of the paid ones: those about which a dispute is open, and what of their money cannot go back. */
  disputed: Sum;
}

const paidRow = z.object({
  orders: z.coerce.number(),
  amount: z.coerce.number(),
  disputed: z.coerce.number(),
  held_back: z.coerce.number(),
});

/** Changes nothing. Of a SKU it is the price of its lines, as far as so much is left of the payment. */
export async function preview(
  pool: Pool,
  { saleId, sku }: CalledOff,
): Promise<CallOffPreview | 'unknown' | 'unknown-sku'> {
  const found = await readSale(pool, saleId);
  if (!found) return 'unknown';
  if (sku !== '' && !found.sale.skus.some((item) => item.sku === sku)) return 'unknown-sku';
  const values = sku === '' ? [saleId] : [sku, saleId];
  const [open] = await selectRows(
    pool,
    sumRow,
    `SELECT COUNT(*) AS orders, COALESCE(SUM(o.total), 0) AS amount
     FROM orders o FORCE INDEX (orders_of_sale_status) ${ofSku(sku)}
     WHERE o.sale_id = ? AND o.status = 'awaiting_payment'`,
    values,
  );
  // `gone` of a payment: what has gone back of it, is to go back, or is disputed.
  const left =
    'CAST(t.amount AS SIGNED) - CAST(GREATEST(t.refund_target, t.refunding) AS SIGNED) - CAST(t.disputed AS SIGNED)';
  const [paid] = await selectRows(
    pool,
    paidRow,
    `SELECT COUNT(*) AS orders, COALESCE(SUM(GREATEST(0, LEAST(${left}, t.price))), 0) AS amount,
       COALESCE(SUM(t.is_disputed), 0) AS disputed,
       COALESCE(SUM(IF(t.is_disputed, LEAST(t.disputed, t.price), 0)), 0) AS held_back
     FROM (SELECT p.amount, p.refund_target, ${sku === '' ? 'p.amount' : 'i.quantity * i.unit_price'} AS price,
         o.payment = 'disputed' AS is_disputed,
         (SELECT COALESCE(SUM(v.amount), 0) FROM reversals v WHERE v.provider = p.provider AND v.kind = 'refund'
            AND v.provider_payment_id = p.provider_payment_id AND v.status <> 'failed') AS refunding,
         (SELECT COALESCE(SUM(v.amount), 0) FROM reversals v WHERE v.provider = p.provider AND v.kind = 'dispute'
            AND v.provider_payment_id = p.provider_payment_id AND v.status <> 'failed') AS disputed
       FROM orders o FORCE INDEX (orders_of_sale_status) ${ofSku(sku)}
       STRAIGHT_JOIN payments p ON p.order_no = o.order_no AND p.applied_at IS NOT NULL
       WHERE o.sale_id = ? AND o.status = 'paid' AND o.payment <> 'refunded') t`,
    values,
  );
  return {
    currency: found.sale.currency,
    open: open ?? NOTHING,
    paid: { orders: paid?.orders ?? 0, amount: paid?.amount ?? 0 },
    disputed: { orders: paid?.disputed ?? 0, amount: paid?.held_back ?? 0 },
  };
}
