/** All that MySQL knows of one order: its state, its money, what was parked, and what was decided. */

import { z } from 'zod';
import { reversalColumns } from '../money/reversals.sql.ts';
import { selectPayments, type Payment } from '../money/rows.sql.ts';
import { selectRows, type Pool } from '../mysql/connection.ts';
import { selectParked, type ParkedEntry } from '../parked/work.sql.ts';
import { readOrders, stateColumns, type StoredOrder } from './rows.sql.ts';

/** Rows of each kind that are shown. An order has a handful; a hostile one must not fill the screen. */
const ROWS_MAX = 100;

const marksRow = z.object({
  created_at: z.date(),
  workflow_started_at: z.date().nullable(),
  engine_due_at: z.date().nullable(),
  end_begun_at: z.date().nullable(),
});
const eventRow = z.object({
  version: z.int(),
  status: stateColumns.status,
  payment: stateColumns.payment,
  refunded: z.int(),
  reason: z.string().nullable(),
  extended_until: stateColumns.extended_until,
  occurred_at: z.date(),
});
const sessionRow = z.object({
  session_id: z.string(),
  provider: z.string(),
  status: z.string(),
  created_at: z.date(),
});
const noticeRow = z.object({
  provider: z.string(),
  provider_event_id: z.string(),
  kind: z.string(),
  received_at: z.date(),
});
const paymentTimesRow = z.object({
  payment_id: z.int(),
  received_at: z.date(),
  applied_at: z.date().nullable(),
  engine_due_at: z.date().nullable(),
});
const reversalRow = z.object({
  provider_payment_id: z.string(),
  kind: reversalColumns.kind,
  provider_reversal_id: z.string(),
  amount: z.int(),
  currency: z.string(),
  status: reversalColumns.status,
  created_at: z.date(),
  updated_at: z.date(),
});
const actionRow = z.object({
  actor: z.string(),
  action: z.string(),
  reason: z.string().nullable(),
  occurred_at: z.date(),
});

interface LifePayment extends Payment {
  receivedAt: Date;
  appliedAt: Date | null;
  /** When the relay is to start or signal its refund workflow; null: it is not. */
  dueAt: Date | null;
}

export interface MysqlLife {
  /** Undefined: MySQL does not have the order. */
  stored: (StoredOrder & z.infer<typeof marksRow>) | undefined;
  /** The oldest first, as all others. */
  events: z.infer<typeof eventRow>[];
  sessions: z.infer<typeof sessionRow>[];
  notices: z.infer<typeof noticeRow>[];
  payments: LifePayment[];
  reversals: z.infer<typeof reversalRow>[];
  parked: ParkedEntry[];
  actions: z.infer<typeof actionRow>[];
}

/** @param saleShard as the references of parked outbox entries begin */
export async function readMysqlLife(pool: Pool, orderNo: string, saleShard: string): Promise<MysqlLife> {
  const one = [orderNo];
  const [[order], [marks], events, sessions, notices, payments] = await Promise.all([
    readOrders(pool, one),
    selectRows(
      pool,
      marksRow,
      `SELECT created_at, workflow_started_at, engine_due_at, end_begun_at
       FROM orders WHERE order_no = ?`,
      one,
    ),
    selectRows(
      pool,
      eventRow,
      `SELECT version, status, payment, refunded, reason, extended_until, occurred_at FROM order_events WHERE order_no = ?
       ORDER BY version LIMIT ${ROWS_MAX}`,
      one,
    ),
    selectRows(
      pool,
      sessionRow,
      `SELECT session_id, provider, status, created_at FROM payment_sessions WHERE order_no = ?
       ORDER BY created_at LIMIT ${ROWS_MAX}`,
      one,
    ),
    selectRows(
      pool,
      noticeRow,
      `SELECT provider, provider_event_id, kind, received_at FROM payment_events WHERE order_no = ?
       ORDER BY entry_id LIMIT ${ROWS_MAX}`,
      one,
    ),
    readPayments(pool, orderNo),
  ]);
  const [reversals, parked] = await Promise.all([
    readReversalsOf(pool, payments),
    readParked(pool, orderNo, saleShard, payments),
  ]);
  return {
    stored: order && marks && { ...order, ...marks },
    events,
    sessions,
    notices,
    payments,
    reversals,
    parked,
    actions: await readActions(pool, orderNo, payments, parked),
  };
}

async function readPayments(pool: Pool, orderNo: string): Promise<LifePayment[]> {
  const payments = await selectPayments(pool, `order_no = ? ORDER BY payment_id LIMIT ${ROWS_MAX}`, [
    orderNo,
  ]);
  if (payments.length === 0) return [];
  const times = await selectRows(
    pool,
    paymentTimesRow,
    'SELECT payment_id, received_at, applied_at, engine_due_at FROM payments WHERE payment_id IN (?)',
    [payments.map(({ paymentId }) => paymentId)],
  );
  const timesOf = new Map(times.map((row) => [row.payment_id, row]));
  return payments.flatMap((payment) => {
    const row = timesOf.get(payment.paymentId);
    if (!row) return [];
    const { received_at: receivedAt, applied_at: appliedAt, engine_due_at: dueAt } = row;
    return [{ ...payment, receivedAt, appliedAt, dueAt }];
  });
}

async function readReversalsOf(pool: Pool, payments: readonly Payment[]): Promise<MysqlLife['reversals']> {
  if (payments.length === 0) return [];
  return selectRows(
    pool,
    reversalRow,
    `SELECT provider_payment_id, kind, provider_reversal_id, amount, currency, status, created_at, updated_at
     FROM reversals WHERE (provider, provider_payment_id) IN (?) ORDER BY reversal_id LIMIT ${ROWS_MAX}`,
    [payments.map(({ provider, providerPaymentId }) => [provider, providerPaymentId])],
  );
}

/** The order itself, its payments and refunds, and outbox entries that named it. */
function readParked(
  pool: Pool,
  orderNo: string,
  saleShard: string,
  payments: readonly Payment[],
): Promise<ParkedEntry[]> {
  const references = ['', ...payments.map(({ providerPaymentId }) => providerPaymentId)];
  return selectParked(
    pool,
    `(kind = 'order' AND reference = ?) OR (kind IN ('payment', 'refund') AND reference IN (?))
       OR (kind = 'outbox_entry' AND reference LIKE ? AND INSTR(inputs, ?) > 0)
     ORDER BY parked_id LIMIT ${ROWS_MAX}`,
    [orderNo, references, `${saleShard}/%`, `"${orderNo}"`],
  );
}

function readActions(
  pool: Pool,
  orderNo: string,
  payments: readonly Payment[],
  parked: readonly ParkedEntry[],
): Promise<MysqlLife['actions']> {
  const subjects = [
    orderNo,
    ...payments.map(({ paymentId }) => `payment ${paymentId}`),
    ...parked.map(({ parkedId }) => `parked ${parkedId}`),
  ];
  return selectRows(
    pool,
    actionRow,
    `SELECT actor, action, reason, occurred_at FROM audit_log WHERE subject IN (?)
     ORDER BY occurred_at, entry_id LIMIT ${ROWS_MAX}`,
    [subjects],
  );
}
