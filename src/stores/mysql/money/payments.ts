/**
 * The payment inbox: commits every notice, together with what it changes about payments and orders, before
 * the provider gets its answer.
 */

import type { PaymentNotice, ProviderPayment, RecordedTotals } from '../../../domain/payment.ts';
import { inTransaction, modify, type Pool, type PoolConnection } from '../connection.ts';
import { lockOrder, type StoredOrder } from '../rows/order-rows.ts';
import { readReversalTotals } from './recorded-reversals.ts';
import { cutReference, insertPayment, settlePayments } from './settle-payments.ts';
import { recordAndSettleReversals } from './settle-reversals.ts';

/** By this very notice the order has its payment (`isNews`), or one more failed attempt (`isNewFailure`). */
export type NoticeReceived = StoredOrder & { isNews?: true; isNewFailure?: true };

export type Payments = ReturnType<typeof createPayments>;

type ReversedNotice = Extract<PaymentNotice, { kind: 'payment_reversed' }>;

export function createPayments(pool: Pool) {
  return {
    /**
     * Commits a notice to the inbox, with its payment and what that changes about the order. A repeated
     * notice changes nothing. A payment for an order that is not stored is kept until the order is stored.
     * @returns the order as it is now; undefined when it is not stored or the notice names none
     */
    receive: (
      provider: string,
      notice: PaymentNotice,
      rawBody: string,
    ): Promise<NoticeReceived | undefined> =>
      inTransaction(pool, async (connection) => {
        if (notice.kind === 'payment_reversed') return receiveReversal(connection, provider, notice, rawBody);
        const orderNo = orderNoOf(notice);
        // The order is locked before anything is written, because its row decides every race about its
        // payments.
        const stored = orderNo === undefined ? undefined : await lockOrder(connection, orderNo);
        const isNew = await insertEvent(connection, provider, notice, orderNo, rawBody);
        if (notice.kind === 'payment_failed' && isNew && stored) return { ...stored, isNewFailure: true };
        if (notice.kind !== 'payment_succeeded') return stored;
        await insertPayment(connection, provider, notice.payment);
        // The order may have been stored since. A transaction that is storing it waits for this row, or this
        // one for it.
        const current = stored ?? (await lockOrder(connection, notice.payment.orderNo));
        if (!current) return undefined;
        const settled = await settlePayments(connection, current);
        const isNews = settled.state.payment === 'received' && current.state.payment !== 'received';
        return isNews ? { ...settled, isNews } : settled;
      }),

    /** What is recorded as gone back of the known ones of these payments, by provider payment id. */
    readReversalTotals: (
      provider: string,
      providerPaymentIds: readonly string[],
    ): Promise<Map<string, RecordedTotals>> => readReversalTotals(pool, provider, providerPaymentIds),

    /** Records what the provider charges for known payments, in minor units, by provider payment id. */
    async recordFees(provider: string, fees: ReadonlyMap<string, number>): Promise<void> {
      if (fees.size === 0) return;
      const ids = [...fees.keys()];
      await inTransaction(pool, (connection) =>
        modify(
          connection,
          `UPDATE payments SET updated_at = updated_at, fee = CASE provider_payment_id
           ${'WHEN ? THEN ? '.repeat(fees.size)} END WHERE provider = ? AND provider_payment_id IN (?)`,
          [...[...fees].flat(), provider, ids],
        ),
      );
    },

    /** Records a payment that the provider reported in another way than by a notice. */
    record: (provider: string, payment: ProviderPayment): Promise<void> =>
      inTransaction(pool, async (connection) => {
        const stored = await lockOrder(connection, payment.orderNo);
        await insertPayment(connection, provider, payment);
        const current = stored ?? (await lockOrder(connection, payment.orderNo));
        if (current) await settlePayments(connection, current);
      }),
  };
}

/** The notice names no order. Its payment does, where that is known. */
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

/** @returns whether the notice is new; a repeat leaves the inbox as it is */
async function insertEvent(
  connection: PoolConnection,
  provider: string,
  notice: PaymentNotice,
  orderNo: string | undefined,
  rawBody: string,
): Promise<boolean> {
  const written = await modify(
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
  return written === 1;
}

function orderNoOf(notice: Exclude<PaymentNotice, ReversedNotice>): string | undefined {
  if (notice.kind === 'payment_succeeded') return notice.payment.orderNo;
  return notice.kind === 'payment_failed' ? notice.orderNo : undefined;
}
