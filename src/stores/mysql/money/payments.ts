/** Payments in MySQL: the inbox. Every notice is committed here, with all that it means, before the provider is told so. */

import type { PaymentNotice, ProviderPayment } from '../../../domain/payment.ts';
import type { ReversalTotals } from '../../../domain/reversals.ts';
import { inTransaction, modify, type Pool, type PoolConnection } from '../connection.ts';
import { lockOrder, type StoredOrder } from '../rows/order-rows.ts';
import { readReversalTotals } from './recorded-reversals.ts';
import { cutReference, insertPayment, settlePayments } from './settle-payments.ts';
import { recordAndSettleReversals } from './settle-reversals.ts';

export type Payments = ReturnType<typeof createPayments>;

type ReversedNotice = Extract<PaymentNotice, { kind: 'payment_reversed' }>;

export function createPayments(pool: Pool) {
  return {
    /**
     * Commits a notice to the inbox, with the money it tells of and what that means for its order.
     * A notice that came before changes nothing. Money for an order that is not stored is kept until it is.
     * @returns the order as it is now; undefined when it is not stored or the notice names none
     */
    receive: (provider: string, notice: PaymentNotice, rawBody: string): Promise<StoredOrder | undefined> =>
      inTransaction(pool, async (connection) => {
        if (notice.kind === 'payment_reversed') return receiveReversal(connection, provider, notice, rawBody);
        const orderNo = orderNoOf(notice);
        // Locked before anything is written: the order's row decides every race about its money.
        const stored = orderNo === undefined ? undefined : await lockOrder(connection, orderNo);
        await insertEvent(connection, provider, notice, orderNo, rawBody);
        if (notice.kind !== 'payment_succeeded') return stored;
        await insertPayment(connection, provider, notice.payment);
        // It may have been stored since; whoever stores it waits for our row, or we for theirs.
        const current = stored ?? (await lockOrder(connection, notice.payment.orderNo));
        return current && settlePayments(connection, current);
      }),

    /** What is recorded as gone back of those payments that are known, by provider payment id. */
    readReversalTotals: (
      provider: string,
      providerPaymentIds: readonly string[],
    ): Promise<Map<string, ReversalTotals>> => readReversalTotals(pool, provider, providerPaymentIds),

    /** Records money that the provider told of in another way than by a notice. */
    record: (provider: string, payment: ProviderPayment): Promise<void> =>
      inTransaction(pool, async (connection) => {
        const stored = await lockOrder(connection, payment.orderNo);
        await insertPayment(connection, provider, payment);
        const current = stored ?? (await lockOrder(connection, payment.orderNo));
        if (current) await settlePayments(connection, current);
      }),
  };
}

/** It names no order; the payment does, where that is known. */
async function receiveReversal(
  connection: PoolConnection,
  provider: string,
  notice: ReversedNotice,
  rawBody: string,
): Promise<StoredOrder | undefined> {
  const { reversal } = notice;
  const stored = await recordAndSettleReversals(
    connection,
    provider,
    reversal.providerPaymentId,
    [reversal],
    'provider',
  );
  await insertEvent(connection, provider, notice, stored?.order.orderNo, rawBody);
  return stored;
}

async function insertEvent(
  connection: PoolConnection,
  provider: string,
  notice: PaymentNotice,
  orderNo: string | undefined,
  rawBody: string,
): Promise<void> {
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
}

function orderNoOf(notice: Exclude<PaymentNotice, ReversedNotice>): string | undefined {
  if (notice.kind === 'payment_succeeded') return notice.payment.orderNo;
  return notice.kind === 'payment_failed' ? notice.orderNo : undefined;
}
