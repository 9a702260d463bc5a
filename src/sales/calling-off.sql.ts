/**
 * Sales and SKUs that are called off for good. The mark here comes first: from its commit on each order that
 * is stored is closed. Its job then goes on from here, however often its workflow is lost.
 */

import { ulid } from 'ulidx';
import { z } from 'zod';
import { keyOf, previewRefunds } from '../money/called-off.sql.ts';
import type { Refusal } from '../money/payment.ts';
import {
  inTransaction,
  modify,
  selectRows,
  type Executor,
  type Pool,
  type PoolConnection,
} from '../mysql/connection.ts';
import { listOpen, listPaid, ofSku, type CalledOff } from '../orders/called-off.sql.ts';
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

const figureRow = z.object({
  figure: z.enum(['open', 'cancelled', 'late', 'requested', 'withdrawn', 'asked']),
  orders: z.coerce.number(),
  amount: z.coerce.number(),
});
const currencyRow = z.object({ currency: z.string() });

/** Orders, and their money in minor units. */
export interface Sum {
  orders: number;
  amount: number;
}

export type CallOffException = z.infer<typeof exceptionRow> & {
  /** What the provider said when it refused. */
  refusal?: Refusal;
};

/** How far a job is, apart from the orders that it cannot refund. */
export interface CallOffFigures {
  currency: string;
  /** Orders that it is cancelling, and those that it has cancelled. */
  open: Sum;
  cancelled: Sum;
  /** Payments that came for these orders, and go back. */
  late: Sum;
  /** What the job has asked back of paid orders: on its way, with the payer, withdrawn by staff. */
  requested: Sum;
  refunded: Sum;
  withdrawn: Sum;
}

/**
 * Reads what is under way, and counters of the rest: no orders that are over. One statement, so that the
 * figures are of one moment.
 * @throws when MySQL is away
 */
export async function readFigures(
  pool: Pool,
  { jobId, saleId, sku }: CalledOff & { jobId: string },
): Promise<CallOffFigures> {
  const counter = (figure: string) => `SELECT '${figure}' AS figure, ${figure}_orders AS orders,
    ${figure}_amount AS amount FROM calling_offs WHERE job_id = ?`;
  const refunds = (figure: string, status: string) => `SELECT '${figure}', COUNT(*), COALESCE(SUM(amount), 0)
    FROM refunds FORCE INDEX (refunds_of_key) WHERE idempotency_key = ? AND status = '${status}'`;
  const [[sale], rows] = await Promise.all([
    selectRows(pool, currencyRow, 'SELECT currency FROM sales WHERE sale_id = ?', [saleId]),
    selectRows(
      pool,
      figureRow,
      `${counter('asked')} UNION ALL ${counter('cancelled')} UNION ALL ${counter('late')}
       UNION ALL ${refunds('requested', 'requested')} UNION ALL ${refunds('withdrawn', 'failed')}
       UNION ALL SELECT 'open', COUNT(*), COALESCE(SUM(o.total), 0)
       FROM orders o FORCE INDEX (orders_due) ${ofSku(sku)}
       WHERE o.status = 'awaiting_payment' AND o.closing_reason = 'called_off' AND o.sale_id = ?`,
      [jobId, jobId, jobId, keyOf({ jobId }), keyOf({ jobId }), ...(sku === '' ? [] : [sku]), saleId],
    ),
  ]);
  const sumOf = (figure: z.infer<typeof figureRow>['figure']): Sum => {
    const { orders = 0, amount = 0 } = rows.find((row) => row.figure === figure) ?? {};
    return { orders, amount };
  };
  const [asked, requested, withdrawn] = [sumOf('asked'), sumOf('requested'), sumOf('withdrawn')];
  return {
    currency: sale?.currency ?? '',
    open: sumOf('open'),
    cancelled: sumOf('cancelled'),
    late: sumOf('late'),
    requested,
    refunded: {
      orders: asked.orders - requested.orders - withdrawn.orders,
      amount: asked.amount - requested.amount - withdrawn.amount,
    },
    withdrawn,
  };
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

/** What calling off would do now, about a part of the orders. */
export interface CallOffPreview {
  currency: string;
  /** Open orders, which would be cancelled. */
  open: Sum;
  /** Paid ones whose money it would ask back. */
  paid: Sum;
  /** Those about which a dispute is open, and what cannot go back for that. */
  disputed: Sum;
  /** For `after`; null: no orders are left. */
  next: string | null;
}

/** Orders of a page, each with its lines, its payment, its refunds and what went back. */
const PREVIEW_PAGE = 500;
/** Pages of one call, which then takes a second. */
const PREVIEW_PAGES = 10;

/**
 * Counts first all open orders, then all paid ones, each by their numbers, and changes nothing.
 * @param after which of them were counted, and the last order: the `next` of the call before
 */
export async function preview(
  pool: Pool,
  calledOff: CalledOff,
  after = 'open:',
): Promise<CallOffPreview | 'unknown' | 'unknown-sku'> {
  const { saleId, sku } = calledOff;
  const found = await readSale(pool, saleId);
  if (!found) return 'unknown';
  if (sku !== '' && !found.sale.skus.some((item) => item.sku === sku)) return 'unknown-sku';
  const [open, paid, disputed]: [number[], number[], number[]] = [[], [], []];
  let next: string | null = after;
  for (let pages = 0; next !== null && pages < PREVIEW_PAGES; pages += 1) {
    const [phase, last = '']: string[] = next.split(':');
    if (phase === 'open') {
      const page = await listOpen(pool, calledOff, last, PREVIEW_PAGE);
      open.push(...page.orders.map(({ total }) => total));
      next = page.next === undefined ? 'paid:' : `open:${page.next}`;
    } else {
      const page = await listPaid(pool, { ...calledOff, jobId: '' }, last, PREVIEW_PAGE);
      const orderNos = page.orders.map(({ orderNo }) => orderNo);
      const refunds = await previewRefunds(pool, orderNos, sku);
      paid.push(...refunds.paid);
      disputed.push(...refunds.disputed);
      next = page.next === undefined ? null : `paid:${page.next}`;
    }
  }
  const { currency } = found.sale;
  return { currency, open: sumUp(open), paid: sumUp(paid), disputed: sumUp(disputed), next };
}

function sumUp(amounts: readonly number[]): Sum {
  return { orders: amounts.length, amount: amounts.reduce((sum, amount) => sum + amount, 0) };
}
