/**
 * The payment inbox: commits every notice, together with what it changes about payments and orders, before
 * the provider gets its answer.
 */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { inTransaction, modify, type Pool, type PoolConnection, selectRows } from '../mysql/connection.ts';
import { ANEW, fromNow } from '../mysql/leases.ts';
import type { Order } from '../orders/content.ts';
import { parseOrderNo, type OrderState } from '../orders/order.ts';
import { lockOrder, type StoredOrder, transition } from '../orders/rows.sql.ts';
import { park, unpark } from '../parked/parked.sql.ts';
import type { PaymentNotice, ProviderPayment, PaymentStatus } from './payment.ts';
import { recordAndApplyReversals, applyEarlyReversals } from './reversals.sql.ts';
import { makeRefundDue, selectPayments, setPaymentStatus, type Payment } from './rows.sql.ts';

/** By this very notice the order has its payment (`isNews`), or one more failed attempt (`isNewFailure`). */
export type NoticeReceived = StoredOrder & { isNews?: true; isNewFailure?: true };

type ReversedNotice = Extract<PaymentNotice, { kind: 'payment_reversed' }>;

/**
 * Commits a notice to the inbox, with its payment and what that changes about the order. A repeated
 * notice changes nothing. A payment for an order that is not stored is kept until the order is stored.
 * @returns the order as it is now; undefined when it is not stored or the notice names none
 */
export function receive(
  pool: Pool,
  provider: string,
  notice: PaymentNotice,
  rawBody: string,
): Promise<NoticeReceived | undefined> {
  return inTransaction(pool, async (connection) => {
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
    const settled = await applyPayments(connection, current);
    const isNews = settled.state.payment === 'received' && current.state.payment !== 'received';
    return isNews ? { ...settled, isNews } : settled;
  });
}

/** Records what the provider charges for known payments, in minor units, by provider payment id. */
export async function recordFees(
  pool: Pool,
  provider: string,
  fees: ReadonlyMap<string, number>,
): Promise<void> {
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
}

/** Records a payment that the provider reported in another way than by a notice. */
export function record(pool: Pool, provider: string, payment: ProviderPayment): Promise<void> {
  return inTransaction(pool, async (connection) => {
    const stored = await lockOrder(connection, payment.orderNo);
    await insertPayment(connection, provider, payment);
    const current = stored ?? (await lockOrder(connection, payment.orderNo));
    if (current) await applyPayments(connection, current);
  });
}

/** The notice names no order. Its payment does, where that is known. */
async function receiveReversal(
  connection: PoolConnection,
  provider: string,
  notice: ReversedNotice,
  rawBody: string,
): Promise<StoredOrder | undefined> {
  const { reversal } = notice;
  const stored = await recordAndApplyReversals(
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

/** The width of the columns. */
const MAX_REFERENCE_CHARS = 255;
/** More than the longest order that is signed. A longer text was not signed here, cut or whole. */
const MAX_SIGNED_CHARS = 20_000;
/** The API signals the workflow at once. When that fails, the relay signals it after this time. */
const SIGNAL_GRACE_MS = 2_000;

const orderNoRow = z.object({ order_no: z.string() });

/** Records a payment once, however often it is reported. One that names no order is parked at once. */
async function insertPayment(
  connection: PoolConnection,
  provider: string,
  payment: ProviderPayment,
): Promise<void> {
  const { providerPaymentId, amount, currency, fee = null } = payment;
  const status: PaymentStatus = parseOrderNo(payment.orderNo) ? 'received' : 'parked';
  const reference = cutReference(payment.orderNo);
  const signed = payment.signedOrder?.slice(0, MAX_SIGNED_CHARS) ?? null;
  const written = await modify(
    connection,
    `INSERT INTO payments (provider, provider_payment_id, order_no, amount, currency, status, signed_order, fee)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE
       signed_order = COALESCE(signed_order, VALUES(signed_order)), fee = COALESCE(VALUES(fee), fee)`,
    [provider, providerPaymentId, reference, amount, currency, status, signed, fee],
  );
  // 1: inserted, 2: there before and amended.
  if (written !== 1) return;
  if (status === 'parked') {
    await park(connection, 'payment', providerPaymentId, `it names no order: ${reference}`, {
      cause: 'no_order_named',
      inputs: { provider, reference, amount, currency },
    });
  }
  await applyEarlyReversals(connection, provider, providerPaymentId);
}

/** A provider's reference may be any text. Its beginning is kept here, and the whole is in the inbox. */
function cutReference(reference: string): string {
  return reference.slice(0, MAX_REFERENCE_CHARS);
}

/**
 * Applies the undecided payments of a locked order. A wrong amount or currency is parked and never kept
 * silently. The first right payment is the order's own; it stays `received` until `markPaid` applies it. Any
 * other one, or one for an order that has ended or is called off, is to be refunded.
 */
export async function applyPayments(connection: PoolConnection, stored: StoredOrder): Promise<StoredOrder> {
  const { orderNo, total, currency } = stored.order;
  let current = stored;
  let own: number | undefined;
  for (const { paymentId, providerPaymentId, ...paid } of await lockReceived(connection, orderNo)) {
    if (paid.amount !== total || paid.currency !== currency) {
      await setPaymentStatus(connection, paymentId, 'parked');
      const reason = `order ${orderNo} costs ${total} ${currency}, paid were ${paid.amount} ${paid.currency}`;
      await park(connection, 'payment', providerPaymentId, reason, {
        cause: 'wrong_amount',
        inputs: { orderNo, total, currency, paid: paid.amount, paidCurrency: paid.currency },
      });
    } else if (isToBeRefused(current.state)) {
      await makeRefundDue(connection, paymentId, 'called_off');
    } else if (current.state.status === 'awaiting_payment' && own === undefined) {
      own = paymentId;
      if (current.state.payment === 'none') {
        current = await transition(connection, current, { payment: 'received' });
        await makeSignalDue(connection, orderNo);
      }
    } else {
      const isLive = current.state.status === 'awaiting_payment' || current.state.status === 'paid';
      await makeRefundDue(connection, paymentId, isLive ? 'duplicate_payment' : 'order_ended');
    }
  }
  return current;
}

/** What is called off takes no money any more: an order that had none by then stays without. */
function isToBeRefused({ status, payment, reason }: OrderState): boolean {
  return status === 'awaiting_payment' && payment === 'none' && reason === 'called_off';
}

function lockReceived(connection: PoolConnection, orderNo: string): Promise<Payment[]> {
  const condition = `order_no = ? AND status = 'received' ORDER BY payment_id FOR UPDATE`;
  return selectPayments(connection, condition, [orderNo]);
}

/** Gives the order's own payment the status `applied`: it has paid for the order. */
export async function applyPayment(connection: PoolConnection, orderNo: string): Promise<void> {
  const applied = await modify(
    connection,
    `UPDATE payments SET status = 'applied', applied_at = NOW(3) WHERE order_no = ? AND status = 'received'`,
    [orderNo],
  );
  assert.equal(applied, 1, `order ${orderNo} has one payment to apply`);
}

/** Applies payments that came before these orders were stored; returns the states of changed orders. */
export function applyBatchEarlyPayments(
  connection: PoolConnection,
  fresh: readonly Order[],
): Promise<Map<string, OrderState>> {
  const orderNos = fresh.map(({ orderNo }) => orderNo);
  return applyEach(connection, orderNos, applyEarlyPayments);
}

/** As `applyPayments`, for many locked orders; returns the states of those that have any. */
export function applyBatchPayments(
  connection: PoolConnection,
  orderNos: readonly string[],
): Promise<Map<string, OrderState>> {
  return applyEach(connection, orderNos, applyPayments);
}

async function applyEach(
  connection: PoolConnection,
  orderNos: readonly string[],
  apply: typeof applyPayments,
): Promise<Map<string, OrderState>> {
  const states = new Map<string, OrderState>();
  if (orderNos.length === 0) return states;
  const rows = await selectRows(
    connection,
    orderNoRow,
    // The index is forced: by the one on the status MySQL would read and lock all undecided payments.
    `SELECT DISTINCT order_no FROM payments FORCE INDEX (payments_of_order)
     WHERE order_no IN (?) AND status = 'received' FOR UPDATE`,
    [orderNos],
  );
  for (const { order_no: orderNo } of rows) {
    const stored = await lockOrder(connection, orderNo);
    assert(stored, `order ${orderNo} is locked in this transaction`);
    states.set(orderNo, (await apply(connection, stored)).state);
  }
  return states;
}

/** Applies payments that came before the order was stored, and unparks those that were unmatched. */
export async function applyEarlyPayments(
  connection: PoolConnection,
  stored: StoredOrder,
): Promise<StoredOrder> {
  for (const { providerPaymentId } of await lockReceived(connection, stored.order.orderNo)) {
    await unpark(connection, 'payment', providerPaymentId);
  }
  return applyPayments(connection, stored);
}

/** Has the relay signal the order's workflow after a grace, in which the API normally does so itself. */
export async function makeSignalDue(connection: PoolConnection, orderNo: string): Promise<void> {
  await modify(connection, `UPDATE orders SET engine_due_at = ?, ${ANEW} WHERE order_no = ?`, [
    fromNow(SIGNAL_GRACE_MS),
    orderNo,
  ]);
}
