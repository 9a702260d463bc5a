/** Parked work as an operator handles it: listed, shown, tried again, or settled by hand. */

import { z } from 'zod';
import {
  lockPaymentAndOrder,
  readPayment,
  selectPayments,
  type Payment,
  type PaymentRef,
} from '../money/rows.sql.ts';
import {
  inTransaction,
  modify,
  selectRows,
  type Executor,
  type Pool,
  type PoolConnection,
} from '../mysql/connection.ts';
import { ANEW } from '../mysql/leases.ts';
import { isFinal } from '../orders/order.ts';
import { lockOrder } from '../orders/rows.sql.ts';
import { retryParkedDelivery } from '../push/replays.sql.ts';
import {
  recordAction,
  type Decision,
  PARKED_KINDS,
  type ParkedKind,
  noteFailure,
  unpark,
} from './parked.sql.ts';

/**
 * When retried work is due: before all other, as the longest due comes first. After the first day of 2000,
 * which the claims take for the beginning of time.
 */
const HEAD_OF_THE_LINE = new Date('2000-01-02T00:00:00Z');

const inputsJson = z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]));

const parkedRow = z
  .object({
    parked_id: z.int(),
    kind: z.enum(PARKED_KINDS),
    reference: z.string(),
    cause: z.string(),
    inputs: z.string().nullable(),
    reason: z.string(),
    last_error: z.string().nullable(),
    parked_at: z.date(),
    last_seen_at: z.date().nullable(),
    times: z.int(),
    resolved_at: z.date().nullable(),
    settled_by: z.enum(['rules', 'operator']).nullable(),
  })
  .transform((row) => ({
    parkedId: row.parked_id,
    kind: row.kind,
    reference: row.reference,
    cause: row.cause,
    inputs: row.inputs === null ? {} : inputsJson.parse(JSON.parse(row.inputs)),
    reason: row.reason,
    lastError: row.last_error ?? row.reason,
    firstAt: row.parked_at,
    lastAt: row.last_seen_at ?? row.parked_at,
    times: row.times,
    resolvedAt: row.resolved_at,
    settledBy: row.settled_by,
  }));

/** What was parked, why, with what, since when, and how often it came up. */
export type ParkedEntry = z.infer<typeof parkedRow>;

const COLUMNS = `parked_id, kind, reference, cause, inputs, reason, last_error, parked_at, last_seen_at, times,
  resolved_at, settled_by`;

/**
 * due: it is tried again before new work. ended: the order is final, and only Redis is to follow. not-stored:
 * MySQL has no such order. outbox: the entry is to go back into the outbox. undecided: no repeat changes
 * anything, so it is to be refunded or settled by hand. resolved: it was not parked any more.
 */
export type RetryOutcome = 'due' | 'ended' | 'not-stored' | 'outbox' | 'undecided' | 'resolved' | 'unknown';

/** Those that are parked, the longest first; or those that are resolved, the latest first. */
interface ParkedSearch {
  kind?: ParkedKind | undefined;
  /** Unless given, `parked`. */
  state?: 'parked' | 'resolved' | undefined;
  /** The last entry of the page before. */
  after?: number | undefined;
  limit: number;
}

export function list(
  pool: Pool,
  { kind, state = 'parked', after, limit }: ParkedSearch,
): Promise<ParkedEntry[]> {
  const isParked = state === 'parked';
  const index = isParked
    ? `parked_open${kind === undefined ? '' : '_kinds'}`
    : kind === undefined
      ? 'PRIMARY'
      : 'parked_of_kind';
  const conditions: Record<string, unknown[]> = {
    [`resolved_at IS ${isParked ? '' : 'NOT '}NULL`]: [],
    ...(kind !== undefined && { 'kind = ?': [kind] }),
    ...(after !== undefined && { [`parked_id ${isParked ? '>' : '<'} ?`]: [after] }),
  };
  return selectRows(
    pool,
    parkedRow,
    `SELECT ${COLUMNS} FROM parked FORCE INDEX (${index}) WHERE ${Object.keys(conditions).join(' AND ')}
     ORDER BY parked_id ${isParked ? '' : 'DESC'} LIMIT ?`,
    [...Object.values(conditions).flat(), limit],
  );
}

/** Undefined when there is no such entry. */
export async function read(pool: Pool, parkedId: number): Promise<ParkedEntry | undefined> {
  return (await selectParked(pool, 'parked_id = ?', [parkedId]))[0];
}

/** Has the work tried again, before new work. What an outcome leaves to be done is the caller's. */
export function retry(pool: Pool, parkedId: number, decision: Decision): Promise<RetryOutcome> {
  return inTransaction(pool, async (connection) => {
    const entry = (await selectParked(connection, 'parked_id = ?', [parkedId]))[0];
    if (!entry) return 'unknown';
    // What it is about is locked first, as the rules do that park it.
    await lockMatter(connection, entry);
    if (!(await lockOpen(connection, parkedId))) return 'resolved';
    const outcome = await makeDue(connection, entry);
    if (outcome === 'due') await recordRetry(connection, entry, decision);
    return outcome;
  });
}

/** Ends the parking of an entry that the caller has brought on its way again. */
export function completeRetry(pool: Pool, entry: ParkedEntry, decision: Decision): Promise<void> {
  return inTransaction(pool, async (connection) => {
    if (!(await lockOpen(connection, entry.parkedId))) return;
    await unpark(connection, entry.kind, entry.reference);
    await recordRetry(connection, entry, decision);
  });
}

/**
 * Takes the entry off the list: the operator has settled it by hand. The rules park it again only for
 * other facts, or after they had settled it themselves.
 */
export function resolve(
  pool: Pool,
  parkedId: number,
  decision: Decision,
): Promise<'resolved' | 'resolved-before' | 'unknown'> {
  return inTransaction(pool, async (connection) => {
    const [entry] = await selectParked(connection, 'parked_id = ? FOR UPDATE', [parkedId]);
    if (!entry) return 'unknown';
    if (entry.resolvedAt) return 'resolved-before';
    await modify(
      connection,
      `UPDATE parked SET resolved_at = NOW(3), settled_by = 'operator' WHERE parked_id = ?`,
      [parkedId],
    );
    await recordAction(connection, {
      ...decision,
      action: 'parked_resolved',
      subject: subjectOf(entry),
      detail: { ...summarize(entry), before: 'parked', after: 'resolved' },
    });
    return 'resolved';
  });
}

/** As `noteFailure`, for the refund of this payment. */
export async function noteRefundFailure(pool: Pool, which: PaymentRef, error: string): Promise<void> {
  const payment = await readPayment(pool, which);
  if (payment) await noteFailure(pool, 'refund', payment.providerPaymentId, error);
}

export function selectParked(reader: Executor, condition: string, values: unknown[]): Promise<ParkedEntry[]> {
  return selectRows(reader, parkedRow, `SELECT ${COLUMNS} FROM parked WHERE ${condition}`, values);
}

/** @returns whether it is parked still */
async function lockOpen(connection: PoolConnection, parkedId: number): Promise<boolean> {
  const [entry] = await selectParked(connection, 'parked_id = ? FOR UPDATE', [parkedId]);
  return entry?.resolvedAt === null;
}

async function lockMatter(connection: PoolConnection, { kind, reference }: ParkedEntry): Promise<void> {
  if (kind === 'order') await lockOrder(connection, reference);
  if (kind !== 'payment' && kind !== 'refund') return;
  for (const { paymentId } of await listPayments(connection, reference))
    await lockPaymentAndOrder(connection, paymentId);
}

/** The payments of this provider's id, which are several where two providers use the same. */
export function listPayments(reader: Executor, providerPaymentId: string): Promise<Payment[]> {
  return selectPayments(reader, 'provider_payment_id = ? ORDER BY payment_id', [providerPaymentId]);
}

function makeDue(connection: PoolConnection, entry: ParkedEntry): Promise<RetryOutcome> {
  switch (entry.kind) {
    case 'order':
      return makeOrderDue(connection, entry.reference);
    case 'refund':
      return makeRefundsDue(connection, entry.reference);
    case 'payment':
      return makePaymentDue(connection, entry.reference);
    case 'outbox_entry':
      return Promise.resolve('outbox');
    case 'delivery':
      return makeDeliveryDue(connection, entry.reference);
    case 'sale':
      return Promise.resolve('undecided');
    default:
      return entry.kind satisfies never;
  }
}

async function makeOrderDue(connection: PoolConnection, orderNo: string): Promise<RetryOutcome> {
  const stored = await lockOrder(connection, orderNo);
  if (!stored) return 'not-stored';
  if (isFinal(stored.state.status)) return 'ended';
  await modify(
    connection,
    // One that is being ended without a workflow is tried at once as well.
    `UPDATE orders SET engine_due_at = ?, ${ANEW}, end_due_at = IF(end_due_at IS NULL, NULL, NOW(3))
     WHERE order_no = ?`,
    [HEAD_OF_THE_LINE, orderNo],
  );
  return 'due';
}

/** Its refund workflow finds what is left to do, be it the refund itself or what it gives back. */
async function makeRefundsDue(connection: PoolConnection, providerPaymentId: string): Promise<RetryOutcome> {
  await modify(connection, `UPDATE payments SET engine_due_at = ?, ${ANEW} WHERE provider_payment_id = ?`, [
    HEAD_OF_THE_LINE,
    providerPaymentId,
  ]);
  return 'due';
}

/**
 * A payment that waits for its order is matched again. A refund that is due is tried again. For any other the
 * rules have decided already.
 */
async function makePaymentDue(connection: PoolConnection, providerPaymentId: string): Promise<RetryOutcome> {
  let outcome: RetryOutcome = 'undecided';
  for (const { paymentId } of await listPayments(connection, providerPaymentId)) {
    const locked = await lockPaymentAndOrder(connection, paymentId);
    if (locked?.payment.status === 'refund_due') {
      outcome = await makeRefundsDue(connection, providerPaymentId);
    } else if (locked?.payment.status === 'received') {
      await unpark(connection, 'payment', providerPaymentId);
      outcome = 'due';
    }
  }
  return outcome;
}

/** The entry ends here; should its whole schedule fail once more, it is parked again. */
async function makeDeliveryDue(connection: PoolConnection, reference: string): Promise<RetryOutcome> {
  return (await retryParkedDelivery(connection, reference)) ? 'due' : 'undecided';
}

function recordRetry(connection: PoolConnection, entry: ParkedEntry, decision: Decision): Promise<void> {
  return recordAction(connection, {
    ...decision,
    action: 'parked_retried',
    subject: subjectOf(entry),
    detail: { ...summarize(entry), before: 'parked', after: 'due' },
  });
}

/** As the audit log names it: an order by its number, so that its story has it. */
export function subjectOf({
  kind,
  reference,
  parkedId,
}: Pick<ParkedEntry, 'kind' | 'reference' | 'parkedId'>): string {
  return kind === 'order' ? reference : `parked ${parkedId}`;
}

function summarize({ parkedId, kind, reference, cause, reason, times }: ParkedEntry) {
  return { parkedId, kind, reference, cause, parkedFor: reason, times };
}
