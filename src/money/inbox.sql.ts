/**
 * The payment inbox: commits every notice, together with what it changes about payments and orders, before
 * the provider gets its answer.
 */

import {
  inShortTransaction,
  inTransaction,
  modify,
  type Pool,
  type PoolConnection,
} from '../mysql/connection.ts';
import { changeLocked, type Outcome } from '../orders/change.sql.ts';
import { parseOrderNo } from '../orders/order.ts';
import { bookMovements, lockOrder, selectOrders, type StoredOrder } from '../orders/rows.sql.ts';
import { park } from '../parked/parked.sql.ts';
import type { PaymentNotice, PaymentStatus, ProviderPayment } from './payment.ts';
import { recordAndApplyReversals, applyEarlyReversals } from './reversals.sql.ts';

type ReversedNotice = Extract<PaymentNotice, { kind: 'payment_reversed' }>;
type SucceededNotice = Extract<PaymentNotice, { kind: 'payment_succeeded' }>;

/** A verified notice with the bytes that were verified. */
export interface Received<Notice extends PaymentNotice = PaymentNotice> {
  notice: Notice;
  rawBody: string;
}

/**
 * The order of a notice as it is now. `isEnd`: this call has ended it, and Redis is to follow.
 * `isNewFailure`: by this very notice it has one more failed attempt to pay.
 */
export type NoticeReceived = StoredOrder & { isEnd?: true; isNewFailure?: true };

/** For a page of notices: a lock that is held for longer is of a transaction that hangs. */
const PAGE_LOCK_WAIT_SECONDS = 1;

/**
 * Commits a notice to the inbox, with its payment and what that changes about the order. A repeated
 * notice changes nothing. A payment for an order that is not stored is kept until the order is stored.
 * @returns undefined when the order is not stored or the notice names none
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
    const isNew = (await insertEvents(connection, provider, [{ notice, rawBody }])) === 1;
    if (notice.kind === 'payment_failed' && isNew && stored) return { ...stored, isNewFailure: true };
    if (notice.kind !== 'payment_succeeded') return stored;
    return recordLocked(connection, provider, notice.payment, stored);
  });
}

/**
 * As `receive`, for payments of orders that are stored, in one transaction: its commit is what a notice costs
 * most. Two notices of one order are applied in the order in which they are given.
 * @returns by the place of the notice; a notice is missing whose order is not stored, or is being changed
 *   just now: it is to be received alone
 * @throws when it meets other transactions: each is to be received alone
 */
export function receivePage(
  pool: Pool,
  provider: string,
  page: readonly Received<SucceededNotice>[],
): Promise<Map<number, NoticeReceived>> {
  const work = async (connection: PoolConnection): Promise<Map<number, NoticeReceived>> => {
    const orderNos = [...new Set(page.map(({ notice }) => notice.payment.orderNo))];
    const orders = await selectOrders(
      connection,
      'order_no IN (?) ORDER BY order_no FOR UPDATE SKIP LOCKED',
      [orderNos],
    );
    const locked = new Set(orders.map(({ order }) => order.orderNo));
    const known = [...page.entries()]
      .filter(([, { notice }]) => locked.has(notice.payment.orderNo))
      .toSorted(([, one], [, other]) => compare(one.notice.payment.orderNo, other.notice.payment.orderNo));
    if (known.length === 0) return new Map();
    const notices = known.map(([, received]) => received);
    await insertEvents(connection, provider, notices);
    await insertPayments(
      connection,
      provider,
      notices.map(({ notice }) => notice.payment),
    );
    const outcomes = await applyPayments(connection, orders);
    const changed = new Map(outcomes.map((outcome) => [outcome.order.orderNo, outcome]));
    const received = new Map<number, NoticeReceived>();
    for (const [place, { notice }] of known) {
      const { orderNo } = notice.payment;
      const outcome = changed.get(orderNo);
      if (!outcome) continue;
      received.set(place, toReceived(outcome));
      // Of several notices of an order, only the first reports its end.
      changed.set(orderNo, { ...outcome, isNews: false });
    }
    return received;
  };
  return inShortTransaction(pool, PAGE_LOCK_WAIT_SECONDS, work);
}

/** Equal texts keep their order. */
function compare(one: string, other: string): number {
  return one === other ? 0 : one < other ? -1 : 1;
}

/** The last statements of a transaction that has recorded payments of these orders. */
async function applyPayments(
  connection: PoolConnection,
  orders: readonly StoredOrder[],
): Promise<Outcome<StoredOrder>[]> {
  const wish = { kind: 'apply-payments', byWorkflow: false } as const;
  const { outcomes, bookings } = await changeLocked(connection, orders, wish);
  await bookMovements(connection, bookings);
  return outcomes;
}

function toReceived(outcome: Outcome<StoredOrder>): NoticeReceived {
  const { isNews, decided: _, ...stored } = outcome;
  return isNews ? { ...stored, isEnd: true } : stored;
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

/**
 * Records a payment that the provider reported in another way than by a notice.
 * @returns undefined when its order is not stored
 */
export function record(
  pool: Pool,
  provider: string,
  payment: ProviderPayment,
): Promise<NoticeReceived | undefined> {
  return inTransaction(pool, async (connection) =>
    recordLocked(connection, provider, payment, await lockOrder(connection, payment.orderNo)),
  );
}

/** @param stored locked; undefined: it was not stored */
async function recordLocked(
  connection: PoolConnection,
  provider: string,
  payment: ProviderPayment,
  stored: StoredOrder | undefined,
): Promise<NoticeReceived | undefined> {
  await insertPayments(connection, provider, [payment]);
  // The order may have been stored since. A transaction that is storing it waits for this row, or this one
  // for it.
  const order = stored ?? (await lockOrder(connection, payment.orderNo));
  if (!order) return undefined;
  const [outcome] = await applyPayments(connection, [order]);
  return outcome && toReceived(outcome);
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
  await insertEvents(connection, provider, [{ notice, rawBody }], stored?.order.orderNo);
  return stored;
}

/**
 * @param orderNo of a notice that does not name its order
 * @returns how many are new; a repeat leaves the inbox as it is
 */
async function insertEvents(
  connection: PoolConnection,
  provider: string,
  received: readonly Received[],
  orderNo?: string,
): Promise<number> {
  return modify(
    connection,
    `INSERT INTO payment_events (provider, provider_event_id, kind, order_no, raw_body) VALUES ?
     ON DUPLICATE KEY UPDATE entry_id = entry_id`,
    [
      received.map(({ notice, rawBody }) => {
        const named = (notice.kind === 'payment_reversed' ? undefined : orderNoOf(notice)) ?? orderNo;
        const reference = named === undefined ? null : cutReference(named);
        return [provider, notice.eventId, notice.kind, reference, Buffer.from(rawBody)];
      }),
    ],
  );
}

function orderNoOf(notice: Exclude<PaymentNotice, ReversedNotice>): string | undefined {
  if (notice.kind === 'payment_succeeded') return notice.payment.orderNo;
  return notice.kind === 'payment_failed' ? notice.orderNo : undefined;
}

/** The width of the columns. */
const MAX_REFERENCE_CHARS = 255;
/** More than the longest order that is signed. A longer text was not signed here, cut or whole. */
const MAX_SIGNED_CHARS = 20_000;

/** Records payments once, however often they are reported. One that names no order is parked at once. */
async function insertPayments(
  connection: PoolConnection,
  provider: string,
  payments: readonly ProviderPayment[],
): Promise<void> {
  const statusOf = ({ orderNo }: ProviderPayment): PaymentStatus =>
    parseOrderNo(orderNo) ? 'received' : 'parked';
  const written = await modify(
    connection,
    `INSERT INTO payments (provider, provider_payment_id, order_no, amount, currency, status, signed_order, fee)
     VALUES ? ON DUPLICATE KEY UPDATE
       signed_order = COALESCE(signed_order, VALUES(signed_order)), fee = COALESCE(VALUES(fee), fee)`,
    [
      payments.map((payment) => [
        provider,
        payment.providerPaymentId,
        cutReference(payment.orderNo),
        payment.amount,
        payment.currency,
        statusOf(payment),
        payment.signedOrder?.slice(0, MAX_SIGNED_CHARS) ?? null,
        payment.fee ?? null,
      ]),
    ],
  );
  // A row counts 1 when it is inserted, and 2 when it was there and is amended.
  if (written === 0) return;
  for (const payment of payments) {
    const { providerPaymentId, amount, currency } = payment;
    const reference = cutReference(payment.orderNo);
    if (statusOf(payment) === 'parked' && written === 1)
      await park(connection, 'payment', providerPaymentId, `it names no order: ${reference}`, {
        cause: 'no_order_named',
        inputs: { provider, reference, amount, currency },
      });
  }
  await applyEarlyReversals(
    connection,
    provider,
    payments.map(({ providerPaymentId }) => providerPaymentId),
  );
}

/** A provider's reference may be any text. Its beginning is kept here, and the whole is in the inbox. */
function cutReference(reference: string): string {
  return reference.slice(0, MAX_REFERENCE_CHARS);
}
