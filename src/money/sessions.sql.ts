/** Payment sessions: each is recorded here before it is opened at the provider. */

import { ulid } from 'ulidx';
import { z } from 'zod';
import {
  inTransaction,
  modify,
  selectRows,
  type Executor,
  type Pool,
  type PoolConnection,
  selectList,
} from '../mysql/connection.ts';
import { readClockMs } from '../mysql/leases.ts';
import { jsonText } from '../orders/content.ts';
import { carriedText, type Order } from '../orders/content.ts';
import { isFinal, orderDeadlineMs } from '../orders/order.ts';
import { lockOrder, type StoredOrder } from '../orders/rows.sql.ts';
import { timeMs } from './rows.sql.ts';

const sessionRow = z.object({
  sessionId: z.string(),
  orderNo: z.string(),
  /** Null until the provider has answered, and so is the URL. */
  providerSessionId: z.string().nullable(),
  /** Unix time in ms at which it expires at the provider by itself, where the provider said so. */
  providerExpiresAtMs: timeMs.nullable(),
  url: z.string().nullable(),
  /** Minor units. */
  amount: z.int(),
  currency: z.string(),
  /** Unix time in ms. */
  expiresAtMs: timeMs,
  /** Unix time in ms. */
  createdAtMs: timeMs,
  /** Empty once the person's data are erased. */
  signedOrder: z
    .string()
    .nullable()
    .transform((signed) => signed ?? ''),
  /** Of the order, as the shop gave them. */
  reference: z.string().nullable(),
  metadata: jsonText(carriedText.inMysql.schema).transform(({ metadata }) => metadata ?? {}),
});
const SESSION = selectList(sessionRow, {
  orderNo: 's.order_no',
  amount: 's.amount',
  currency: 's.currency',
  createdAtMs: 's.created_at',
  metadata: 'o.carried',
});

const idRow = z.object({ session_id: z.string() });

/** A recorded payment session. */
export type PaymentSession = z.infer<typeof sessionRow>;

/**
 * not-payable: no session opens, and the order's state says why. outdated: this session of it ends before its
 * deadline, which was extended since. It is to be voided first, and no other: the next may be open by then.
 */
export type BeginSessionOutcome =
  | { kind: 'begun'; session: PaymentSession }
  | { kind: 'outdated'; session: PaymentSession }
  | { kind: 'not-payable'; stored: StoredOrder }
  | { kind: 'not-stored' };

/** What the provider answered; `expiresAtMs` in Unix ms. */
export interface OpenedSession {
  providerSessionId: string;
  url: string;
  expiresAtMs: number | null;
}

type SessionEnd = 'voided' | 'paid' | 'refused';

/**
 * Refused sessions of one order. Each call of a shopper begins at most one more, and what a new session can
 * mend it mends at once.
 */
const MAX_REFUSED = 10;

/** Signs an order, as `OrderSigner.sign` does. */
export type SignOrder = (order: Order) => Promise<string>;

/**
 * Records a session before the provider is asked for it, so that no session is ever open without a
 * record. An order has one session at a time, and a repeated call returns the same one, to the byte.
 */
export function begin(
  pool: Pool,
  provider: string,
  orderNo: string,
  sign: SignOrder,
): Promise<BeginSessionOutcome> {
  return inTransaction(pool, async (connection) => {
    const stored = await lockOrder(connection, orderNo);
    if (!stored) return { kind: 'not-stored' };
    const nowMs = await readClockMs(connection);
    // The deadline is by Redis' clock. Of these two the one that is behind decides: no order ends early
    // as long as one of them is right, and a payment page that opens late does no harm.
    if (!isPayable(stored, Math.min(nowMs, Date.now()))) return { kind: 'not-payable', stored };
    const [existing] = await selectOpen(connection, orderNo);
    const expiresAtMs = orderDeadlineMs(stored.order, stored.state);
    if (existing && existing.expiresAtMs < expiresAtMs) return { kind: 'outdated', session: existing };
    if (existing) return { kind: 'begun', session: existing };
    const signedOrder = await sign(stored.order);
    const times = { createdAtMs: nowMs, expiresAtMs };
    const session = await insertSession(connection, provider, stored.order, { signedOrder, ...times });
    return { kind: 'begun', session };
  });
}

/** @returns false: it was closed meanwhile, and nobody can pay in it */
export async function recordOpened(pool: Pool, sessionId: string, opened: OpenedSession): Promise<boolean> {
  const { providerSessionId, url, expiresAtMs } = opened;
  const recorded = await modify(
    pool,
    `UPDATE payment_sessions SET status = 'open', provider_session_id = ?, url = ?, provider_expires_at = ?
         WHERE session_id = ? AND status = 'opening'`,
    [providerSessionId, url, expiresAtMs === null ? null : new Date(expiresAtMs), sessionId],
  );
  if (recorded === 1) return true;
  const sql = "SELECT session_id FROM payment_sessions WHERE session_id = ? AND status = 'open'";
  return (await selectRows(pool, idRow, sql, [sessionId])).length === 1;
}

/**
 * Records that the provider refused to open the session, so that the next `begin` begins another one.
 * Once an order has had too many, its last session stays and is asked for again.
 */
export function recordRefused(
  pool: Pool,
  { sessionId, orderNo }: Pick<PaymentSession, 'sessionId' | 'orderNo'>,
): Promise<void> {
  return inTransaction(pool, async (connection) => {
    await lockOrder(connection, orderNo);
    const refused = await selectRows(
      connection,
      idRow,
      `SELECT session_id FROM payment_sessions WHERE order_no = ? AND status = 'refused' LIMIT ?`,
      [orderNo, MAX_REFUSED],
    );
    if (refused.length < MAX_REFUSED) await close(connection, sessionId, 'refused');
  });
}

export function listOpen(pool: Pool, orderNo: string): Promise<PaymentSession[]> {
  return selectOpen(pool, orderNo);
}

/** refused: the provider refused to open it, and so there is nothing to close there. */
export function recordClosed(pool: Pool, sessionId: string, end: SessionEnd): Promise<void> {
  return close(pool, sessionId, end);
}

/** A session that another call has opened meanwhile was not refused. */
async function close(executor: Executor, sessionId: string, end: SessionEnd): Promise<void> {
  await modify(executor, 'UPDATE payment_sessions SET status = ? WHERE session_id = ? AND status IN (?)', [
    end,
    sessionId,
    end === 'refused' ? ['opening'] : ['opening', 'open'],
  ]);
}

/**
 * An order is payable until its deadline, unless it has ended or a cancel request is known.
 */
function isPayable({ order, state }: StoredOrder, nowMs: number): boolean {
  const open = !isFinal(state.status) && state.reason === null;
  return open && nowMs < orderDeadlineMs(order, state);
}

function selectOpen(reader: Executor, orderNo: string): Promise<PaymentSession[]> {
  return selectRows(
    reader,
    sessionRow,
    `SELECT ${SESSION} FROM payment_sessions s JOIN orders o ON o.order_no = s.order_no
     WHERE s.order_no = ? AND s.status IN ('opening', 'open')`,
    [orderNo],
  );
}

async function insertSession(
  connection: PoolConnection,
  provider: string,
  order: Order,
  {
    signedOrder,
    createdAtMs,
    expiresAtMs,
  }: Pick<PaymentSession, 'signedOrder' | 'createdAtMs' | 'expiresAtMs'>,
): Promise<PaymentSession> {
  const sessionId = ulid();
  const { orderNo, total: amount, currency, reference = null, metadata = {} } = order;
  await modify(
    connection,
    `INSERT INTO payment_sessions (session_id, order_no, provider, amount, currency, status, expires_at, created_at,
       signed_order) VALUES (?, ?, ?, ?, ?, 'opening', ?, ?, ?)`,
    [
      sessionId,
      orderNo,
      provider,
      amount,
      currency,
      new Date(expiresAtMs),
      new Date(createdAtMs),
      signedOrder,
    ],
  );
  const unknown = { providerSessionId: null, providerExpiresAtMs: null, url: null };
  const given = { orderNo, amount, currency, reference, metadata };
  return { sessionId, ...given, ...unknown, expiresAtMs, createdAtMs, signedOrder };
}

/**
 * Closes the sessions of an order whose payment came and went back: a session that was open has been paid.
 */
export async function closePaidSessions(connection: PoolConnection, orderNo: string): Promise<void> {
  await modify(
    connection,
    `UPDATE payment_sessions SET status = 'paid' WHERE order_no = ? AND status IN ('opening', 'open')`,
    [orderNo],
  );
}
