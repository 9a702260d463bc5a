/** Payments in MySQL: the inbox, and sessions at the provider. */

import { ulid } from 'ulidx';
import { z } from 'zod';
import { isFinal, orderDeadlineMs } from '../domain/order.ts';
import type { PaymentNotice, ProviderPayment } from '../domain/payment.ts';
import { inTransaction, modify, selectRows, type Executor, type Pool, type PoolConnection } from './mysql.ts';
import { lockOrder, type StoredOrder } from './order-rows.ts';
import { park } from './parked.ts';
import { cutReference, insertPayment, settlePayments } from './payment-rows.ts';

const sessionRow = z.object({
  session_id: z.string(),
  order_no: z.string(),
  provider_session_id: z.string().nullable(),
  url: z.string().nullable(),
  amount: z.int(),
  currency: z.string(),
  expires_at: z.date(),
});

/** An accepted order is stored within minutes even in a burst; money that waited so long for its order is a person's business. */
const ORPHAN_AFTER_SECONDS = 60 * 60;

/** A payment session as we recorded it; its provider id and URL are unknown until the provider has answered. */
export interface PaymentSession {
  sessionId: string;
  orderNo: string;
  providerSessionId: string | null;
  url: string | null;
  /** Minor units. */
  amount: number;
  currency: string;
  /** Unix time in ms. */
  expiresAtMs: number;
}

/** Why no session opens is told by the order's state. */
export type BeginSessionOutcome =
  | { kind: 'begun'; session: PaymentSession }
  | { kind: 'not-payable'; stored: StoredOrder }
  | { kind: 'not-stored' };

export type Payments = ReturnType<typeof createPayments>;

export function createPayments(pool: Pool) {
  return {
    /**
     * Commits a notice to the inbox, with the payment it tells of and what that means for its order.
     * A notice that came before changes nothing. Money for an order that is not stored is kept until it is.
     * @returns the order as it is now; undefined when it is not stored or the notice names none
     */
    receive: (provider: string, notice: PaymentNotice, rawBody: string): Promise<StoredOrder | undefined> =>
      inTransaction(pool, async (connection) => {
        const orderNo = orderNoOf(notice);
        // Locked before anything is written: the order's row decides every race about its money.
        const stored = orderNo === undefined ? undefined : await lockOrder(connection, orderNo);
        await modify(
          connection,
          `INSERT INTO payment_events (provider, provider_event_id, kind, order_no, raw_body) VALUES (?, ?, ?, ?, ?)
           ON DUPLICATE KEY UPDATE entry_id = entry_id`,
          [
            provider,
            notice.eventId,
            notice.kind,
            orderNo === undefined ? null : cutReference(orderNo),
            Buffer.from(rawBody),
          ],
        );
        if (notice.kind !== 'payment_succeeded') return stored;
        await insertPayment(connection, provider, notice.payment);
        // It may have been stored since; whoever stores it waits for our row, or we for theirs.
        const current = stored ?? (await lockOrder(connection, notice.payment.orderNo));
        return current && settlePayments(connection, current);
      }),

    /** Records money that the provider told of in another way than by a notice. */
    record: (provider: string, payment: ProviderPayment): Promise<void> =>
      inTransaction(pool, async (connection) => {
        const stored = await lockOrder(connection, payment.orderNo);
        await insertPayment(connection, provider, payment);
        const current = stored ?? (await lockOrder(connection, payment.orderNo));
        if (current) await settlePayments(connection, current);
      }),

    /**
     * Writes a session down before the provider is asked for it, so that none is ever open unknown to us.
     * An order has one session at a time: asking again answers the same.
     */
    beginSession: (provider: string, orderNo: string): Promise<BeginSessionOutcome> =>
      inTransaction(pool, async (connection) => {
        const stored = await lockOrder(connection, orderNo);
        if (!stored) return { kind: 'not-stored' };
        if (!isPayable(stored)) return { kind: 'not-payable', stored };
        const [existing] = await selectOpen(connection, orderNo);
        return { kind: 'begun', session: existing ?? (await insertSession(connection, provider, stored)) };
      }),

    async sessionOpened(sessionId: string, providerSessionId: string, url: string): Promise<void> {
      await modify(
        pool,
        `UPDATE payment_sessions SET status = 'open', provider_session_id = ?, url = ?
         WHERE session_id = ? AND status = 'opening'`,
        [providerSessionId, url, sessionId],
      );
    },

    /**
     * Money that names an order nobody knows is shown to a person. It stays `received`, so an order stored late still gets it.
     */
    parkOrphans: (limit: number): Promise<void> =>
      inTransaction(pool, async (connection) => {
        const orphans = await selectRows(
          connection,
          z.object({ provider_payment_id: z.string(), order_no: z.string() }),
          `SELECT p.provider_payment_id, p.order_no FROM payments p LEFT JOIN orders o ON o.order_no = p.order_no
           LEFT JOIN parked k ON k.kind = 'payment' AND k.reference = p.provider_payment_id
           WHERE p.status = 'received' AND o.order_no IS NULL AND k.parked_id IS NULL
             AND p.received_at < NOW(3) - INTERVAL ? SECOND LIMIT ?`,
          [ORPHAN_AFTER_SECONDS, limit],
        );
        for (const { provider_payment_id: paymentId, order_no: orderNo } of orphans) {
          await park(connection, 'payment', paymentId, `its order ${orderNo} is not known`);
        }
      }),

    openSessions: (orderNo: string): Promise<PaymentSession[]> => selectOpen(pool, orderNo),

    async sessionClosed(sessionId: string, status: 'voided' | 'paid'): Promise<void> {
      await modify(
        pool,
        `UPDATE payment_sessions SET status = ? WHERE session_id = ? AND status IN ('opening', 'open')`,
        [status, sessionId],
      );
    },
  };
}

function orderNoOf(notice: PaymentNotice): string | undefined {
  if (notice.kind === 'payment_succeeded') return notice.payment.orderNo;
  return notice.kind === 'payment_failed' ? notice.orderNo : undefined;
}

/** Until the deadline, and only while neither money nor the wish to cancel is known. */
function isPayable({ order, state }: StoredOrder): boolean {
  const open = !isFinal(state.status) && state.payment === 'none' && state.reason === null;
  return open && Date.now() < orderDeadlineMs(order);
}

async function selectOpen(reader: Executor, orderNo: string): Promise<PaymentSession[]> {
  const rows = await selectRows(
    reader,
    sessionRow,
    `SELECT session_id, order_no, provider_session_id, url, amount, currency, expires_at FROM payment_sessions
     WHERE order_no = ? AND status IN ('opening', 'open')`,
    [orderNo],
  );
  return rows.map((row) => ({
    sessionId: row.session_id,
    orderNo: row.order_no,
    providerSessionId: row.provider_session_id,
    url: row.url,
    amount: row.amount,
    currency: row.currency,
    expiresAtMs: row.expires_at.getTime(),
  }));
}

async function insertSession(
  connection: PoolConnection,
  provider: string,
  { order }: StoredOrder,
): Promise<PaymentSession> {
  const sessionId = ulid();
  const expiresAtMs = orderDeadlineMs(order);
  const { orderNo, total, currency } = order;
  await modify(
    connection,
    `INSERT INTO payment_sessions (session_id, order_no, provider, amount, currency, status, expires_at)
     VALUES (?, ?, ?, ?, ?, 'opening', ?)`,
    [sessionId, orderNo, provider, total, currency, new Date(expiresAtMs)],
  );
  return { sessionId, orderNo, providerSessionId: null, url: null, amount: total, currency, expiresAtMs };
}
