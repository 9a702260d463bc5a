/** Refunds: asked for and withdrawn by staff, claimed by relays, read and recorded by their workflow. */

import { z } from 'zod';
import {
  type PoolConnection,
  modify,
  selectRows,
  type Pool,
  inTransaction,
  atomically,
  type Executor,
  selectList,
} from '../mysql/connection.ts';
import { ANEW, COUNT_FAILURE, KEEP_PLACE, takeLease } from '../mysql/leases.ts';
import {
  recordAction,
  type Decision,
  resolveStockDecision,
  park as parkWork,
  unpark as unparkWork,
} from '../parked/parked.sql.ts';
import {
  decideRefund,
  requestedBefore,
  toOwnPayment,
  unitsOf,
  type Asked,
  type NoRefund,
  type OwnPayment,
} from './own-payment.ts';
import { sumDisputes, type PaymentStatus, type Refusal, type Reversal, REFUND_REASONS } from './payment.ts';
import { readLimitRule, lockReversals, applyReversals, readReversals } from './reversals.sql.ts';
import {
  makePartDue,
  makeRefundSignalDue,
  setRefundTarget,
  lockPaymentAndOrder,
  selectPayments,
  makeIdleRefundSignalDue,
  makeRefundDue,
  insertRefund,
  readRefundsOf,
  finishRefundRows,
  type NewRefund,
  type Refund,
  readPayment,
  type PaymentRef,
  IS_GIVE_BACK_DUE,
} from './rows.sql.ts';

/** What identifies a request, so that its repeat finds its refund. */
export type RefundRequestKey = { idempotencyKey: string; fingerprint: string };

/** A refund, and the currency of its amount. */
export interface RequestedRefund {
  refund: Refund;
  currency: string;
}

/** not-taken: the provider cannot send it back. */
export type RequestRefundOutcome =
  | ({ kind: 'requested' } & RequestedRefund)
  | ({ kind: 'repeated' } & RequestedRefund)
  | { kind: 'unknown' | 'key-reused' }
  | { kind: 'not-taken'; fault: string }
  | NoRefund;

/**
 * Staff send back all or a part of an order's money. A repeat under its key returns the same refund.
 * @param asked or what decides it under the order's lock
 */
export function requestByOrder(
  executor: Executor,
  orderNo: string,
  asked: Asked,
  decision: Decision,
  { idempotencyKey, fingerprint }: RefundRequestKey,
  refundFault: (price: { amount: number; currency: string }) => string | undefined = () => undefined,
): Promise<RequestRefundOutcome> {
  return atomically(executor, async (connection) => {
    const own = await lockOwnPayment(connection, orderNo);
    if (own === 'unknown' || own === 'not-paid')
      return { kind: own === 'unknown' ? 'unknown' : 'not-refundable' };
    const { currency } = own.payment;
    const repeated = own.refunds.find((refund) => refund.idempotencyKey === idempotencyKey);
    if (repeated)
      return repeated.fingerprint === fingerprint
        ? { kind: 'repeated', refund: repeated, currency }
        : { kind: 'key-reused' };
    const decided = decideRefund(own, asked);
    if (decided.kind !== 'refund') return decided;
    const { kind: _, restoresLimit, ...rest } = decided;
    const fault = rest.amount > 0 ? refundFault({ amount: rest.amount, currency }) : undefined;
    if (fault !== undefined) return { kind: 'not-taken', fault };
    const refund = await writeRefund(connection, own, {
      ...rest,
      restoresLimit: restoresLimit ?? (await readLimitRule(connection, own.stored.order.saleId)),
      ...decision,
      idempotencyKey,
      fingerprint,
    });
    return { kind: 'requested', refund, currency };
  });
}

/**
 * A repeat returns the same, and makes the refund workflow due where it is not. not-refundable: the payment
 * went back already.
 */
export function request(
  pool: Pool,
  paymentId: number,
  actor: string,
  why: string | null = null,
): Promise<'requested' | 'not-refundable' | 'unknown'> {
  return inTransaction(pool, async (connection) => {
    const locked = await lockPaymentAndOrder(connection, paymentId);
    if (!locked) return 'unknown';
    const { status, providerPaymentId, orderNo, amount, currency, refundTarget } = locked.payment;
    const isAllRequested = refundTarget >= amount && (amount > 0 || status === 'refunded');
    if (status === 'refund_due') await makeIdleRefundSignalDue(connection, paymentId);
    if (isAllRequested) return 'requested';
    if (status === 'refunded') return 'not-refundable';
    await unparkWork(connection, 'payment', providerPaymentId);
    const decision = { actor, reason: why };
    if (locked.payment.wasApplied && (await requestWholePayment(connection, orderNo, decision)))
      return 'requested';
    await makeRefundDue(connection, paymentId, 'operator_request');
    const subject = `payment ${paymentId}`;
    const detail = { orderNo, amount, currency, before: status, after: 'refund_due' };
    await recordAction(connection, { ...decision, action: 'refund_requested', subject, detail });
    return 'requested';
  });
}

/** @returns false: all of it is requested already */
async function requestWholePayment(
  connection: PoolConnection,
  orderNo: string,
  decision: Decision,
): Promise<boolean> {
  const own = await lockOwnPayment(connection, orderNo);
  if (own === 'unknown' || own === 'not-paid') return false;
  const { amount, refundTarget } = own.payment;
  if (refundTarget >= amount && amount > 0) return false;
  const before = requestedBefore(own, true);
  await writeRefund(connection, own, {
    items: null,
    // With all of the money, also what is disputed: it waits for the end of the dispute.
    amount: amount - before,
    target: amount,
    charges: false,
    restock: false,
    restoresLimit: false,
    ...decision,
    idempotencyKey: null,
    fingerprint: null,
  });
  return true;
}

/** With money it becomes due, without it is settled at once. The refund's workflow gives back its units. */
async function writeRefund(
  connection: PoolConnection,
  { payment, stored, succeeded, refunding }: OwnPayment,
  refund: Omit<NewRefund, 'orderNo' | 'paymentId' | 'refusalsBefore'>,
): Promise<Refund> {
  const { paymentId, providerPaymentId, currency, status } = payment;
  const { orderNo } = stored.order;
  const { amount, target, actor, reason, items, restock } = refund;
  await insertRefund(connection, { ...refund, orderNo, paymentId, refusalsBefore: payment.refusals });
  if (amount > 0) await makePartDue(connection, paymentId, target);
  else await makeRefundSignalDue(connection, paymentId);
  await finishRefundRows(
    connection,
    paymentId,
    status === 'refunded' ? payment.amount : succeeded,
    refunding,
  );
  if (target >= payment.amount) await unparkWork(connection, 'payment', providerPaymentId);
  else await resolveStockDecision(connection, providerPaymentId);
  if (payment.amount === 0) await endFree(connection, { payment, stored });
  const written = (await readRefundsOf(connection, orderNo)).at(-1);
  if (!written) throw new Error(`the refund of ${orderNo} was written in this transaction`);
  const detail = { orderNo, refundId: written.refundId, amount, currency, items, restock, before: status };
  const subject = refund.idempotencyKey === null ? `payment ${paymentId}` : orderNo;
  await recordAction(connection, { actor, reason, action: 'refund_requested', subject, detail });
  return written;
}

/** A free order is refunded by a request without units, or once none of its units is left to be refunded. */
async function endFree(
  connection: PoolConnection,
  { payment, stored }: Pick<OwnPayment, 'payment' | 'stored'>,
): Promise<void> {
  const { order } = stored;
  const refunds = await readRefundsOf(connection, order.orderNo);
  const isWhole = refunds.at(-1)?.items === null;
  const left = unitsOf({ kind: 'all', restock: false, restoresLimit: undefined }, order, refunds);
  if (!isWhole && 'items' in left && left.items !== null) return;
  await applyReversals(connection, { payment, stored }, [], 'workflow');
}

/** on-its-way: the money may be back already. */
export type WithdrawOutcome =
  | ({ kind: 'withdrawn' } & RequestedRefund)
  | { kind: 'unknown' | 'no-such-refund' | 'on-its-way' };

/**
 * Staff withdraw a refund whose money is not on its way, say because the provider refuses it. A repeat
 * returns the same. Where a request to
 * the provider is under way at this very moment, its money counts as sent back by provider staff.
 */
export function withdraw(
  pool: Pool,
  orderNo: string,
  refundId: number,
  decision: Decision,
): Promise<WithdrawOutcome> {
  return inTransaction(pool, async (connection): Promise<WithdrawOutcome> => {
    const own = await lockOwnPayment(connection, orderNo);
    if (own === 'unknown') return { kind: 'unknown' };
    const refund = own === 'not-paid' ? undefined : own.refunds.find((one) => one.refundId === refundId);
    if (own === 'not-paid' || !refund) return { kind: 'no-such-refund' };
    const { currency, paymentId, refundTarget } = own.payment;
    if (refund.status === 'failed') return { kind: 'withdrawn', refund, currency };
    // A request is one refund up to its target. What provider staff send counts towards it, and stays.
    if (refund.status === 'succeeded' || own.refunding >= refund.target) return { kind: 'on-its-way' };
    const target = Math.max(refundTarget - refund.amount, Math.min(own.refunding, refundTarget));
    await setRefundTarget(connection, paymentId, target);
    await modify(
      connection,
      `UPDATE refunds SET status = IF(refund_id = ?, 'failed', status), ended_at = IF(refund_id = ?, NOW(3), ended_at),
       target = target - IF(refund_id = ?, 0, ?) WHERE payment_id = ? AND target >= ? AND kind = 'request' AND status <> 'failed'`,
      [refundId, refundId, refundId, refundTarget - target, paymentId, refund.target],
    );
    const payment = { ...own.payment, refundTarget: target };
    await applyReversals(connection, { payment, stored: own.stored }, [], 'workflow');
    await makeRefundSignalDue(connection, paymentId);
    const detail = { refundId, amount: refund.amount, before: 'requested', after: 'withdrawn' };
    await recordAction(connection, { ...decision, action: 'refund_withdrawn', subject: orderNo, detail });
    const [after = refund] = (await readRefundsOf(connection, orderNo)).filter(
      (one) => one.refundId === refundId,
    );
    return { kind: 'withdrawn', refund: after, currency };
  });
}

const orderNoRow = z.object({ order_no: z.string() });

/** unknown: the order is not stored. not-paid: no payment has paid for it. */
async function lockOwnPayment(
  connection: PoolConnection,
  orderNo: string,
): Promise<OwnPayment | 'unknown' | 'not-paid'> {
  const seen = (await selectPayments(connection, 'order_no = ?', [orderNo])).find(
    ({ wasApplied }) => wasApplied,
  );
  const locked = seen && (await lockPaymentAndOrder(connection, seen.paymentId));
  if (!locked?.stored) {
    const known = await selectRows(connection, orderNoRow, 'SELECT order_no FROM orders WHERE order_no = ?', [
      orderNo,
    ]);
    return known.length > 0 ? 'not-paid' : 'unknown';
  }
  const { payment, stored } = locked;
  const reversals = await lockReversals(connection, [payment.provider, payment.providerPaymentId]);
  return toOwnPayment(payment, stored, await readRefundsOf(connection, orderNo), reversals);
}

const targetRow = z.object({ target: z.int(), due: z.coerce.boolean() });

/** What the refund workflow needs to know of a payment. */
export interface RefundTask {
  paymentId: number;
  provider: string;
  providerPaymentId: string;
  orderNo: string;
  /** Minor units that were paid. */
  amount: number;
  currency: string;
  status: PaymentStatus;
  /** How often the provider refused. After each refusal the next request needs another idempotency key. */
  refusals: number;
  /** What it said when it last did; null: it did not, or has accepted since. */
  refusal: Refusal | null;
  /** Minor units that are to be refunded in all. */
  refundTarget: number;
  /**
   * Minor units that are refunded in all after each request that has not ended, the least first. Each request
   * has its own refund at the provider.
   */
  targets: number[];
  /** Refunds have ended whose units are not given back yet. */
  isGiveBackDue: boolean;
  /** All that is recorded as gone back, by notices, by the provider's answers and by its list. */
  reversals: Reversal[];
  /** Minor units that disputes have taken or may take. They must not be refunded in addition. */
  chargedBack: number;
}

/** Why a refund is shown to an operator. */
export interface RefundFailure {
  cause: 'step_failing' | 'refund_slow' | 'refund_refused' | 'refund_unclear';
  /** The words by which the Web UI shows the step; null: of a workflow from before it was recorded. */
  step: string | null;
}

/** Undefined when there is no such payment. */
export async function read(pool: Pool, which: PaymentRef): Promise<RefundTask | undefined> {
  const payment = await readPayment(pool, which);
  if (!payment) return undefined;
  const { reason: _, wasApplied: __, ...task } = payment;
  const reversals = await readReversals(pool, [task.provider, task.providerPaymentId]);
  const chargedBack = sumDisputes(task.currency, reversals);
  return { ...task, ...(await readTargets(pool, task.paymentId)), reversals, chargedBack };
}

/** Parks a refund that keeps failing, for an operator. Its workflow goes on trying. */
export async function park(
  pool: Pool,
  paymentId: number,
  reason: string,
  { cause, step }: RefundFailure,
): Promise<void> {
  const payment = await readPayment(pool, { paymentId });
  if (!payment) return;
  const { providerPaymentId, orderNo, amount, currency, refusal } = payment;
  const inputs = { paymentId, orderNo, amount, currency, step, ...(refusal && { refusal: refusal.code }) };
  await parkWork(pool, 'refund', providerPaymentId, reason, { cause, inputs });
}

/** Ends the parking once the refund has succeeded. */
export async function unpark(pool: Pool, paymentId: number): Promise<void> {
  const payment = await readPayment(pool, { paymentId });
  if (payment) await unparkWork(pool, 'refund', payment.providerPaymentId);
}

async function readTargets(
  reader: Executor,
  paymentId: number,
): Promise<Pick<RefundTask, 'targets' | 'isGiveBackDue'>> {
  const rows = await selectRows(
    reader,
    targetRow,
    `SELECT target, ${IS_GIVE_BACK_DUE} AS due FROM refunds
     WHERE payment_id = ? AND (status = 'requested' OR ${IS_GIVE_BACK_DUE}) ORDER BY target`,
    [paymentId],
  );
  const open = rows.filter(({ due }) => !due);
  return { targets: open.map(({ target }) => target), isGiveBackDue: open.length < rows.length };
}

// Claims of payments whose refund workflow is due to be started or signalled: taken, completed or released.

/** How long a claim lasts. A relay completes it within seconds; after this time another relay may take it. */
const CLAIM_MS = 30_000;
const LEASED = { table: 'payments', key: 'payment_id', until: 'engine_due_at', since: 'engine_since' };

const openRow = z.object({
  paymentId: z.int(),
  provider: z.string(),
  providerPaymentId: z.string(),
  /** Nothing is due or claimed: its workflow alone will go on. */
  isWaiting: z.coerce.boolean(),
});

const OPEN = selectList(openRow, { isWaiting: 'engine_due_at IS NULL' });

/** A payment that is to go back, as a walk over them sees it. */
export type OpenRefund = z.infer<typeof openRow>;

const dueRow = z.object({
  paymentId: z.int(),
  provider: z.string(),
  providerPaymentId: z.string(),
  orderNo: z.string(),
  /** Minor units. */
  amount: z.int(),
  currency: z.string(),
  /** Null: no refund was requested here. The workflow then gives back the limit or stock. */
  reason: z.enum(REFUND_REASONS).nullable(),
});

const DUE = selectList(dueRow, { reason: 'refund_reason' });

/** A payment whose refund workflow is to be started or signalled, claimed by one relay. */
export interface DueRefund extends z.infer<typeof dueRow> {
  /** When the claim runs out, by MySQL's clock (Unix ms). It distinguishes this claim from the next one. */
  claimedUntilMs: number;
}

const idRow = dueRow.pick({ paymentId: true });

/** Ends only the caller's own claims. A payment that became due again has another time, and stays due. */
async function endClaims(pool: Pool, claimed: readonly DueRefund[], end: string): Promise<void> {
  if (claimed.length === 0) return;
  const ids = claimed.map(({ paymentId }) => paymentId);
  const claims = claimed.map(({ paymentId, claimedUntilMs }) => [paymentId, new Date(claimedUntilMs)]);
  await inTransaction(pool, (connection) =>
    // The ids are given once more because only they lead through the index.
    modify(
      connection,
      `UPDATE payments SET ${end}
         WHERE payment_id IN (?) AND (payment_id, engine_due_at) IN (?)`,
      [ids, claims],
    ),
  );
}

/**
 * Claims up to `limit` payments, the longest due first. Each is the caller's until
 * `completeDue` or `releaseDue`, or until the claim runs out.
 */
export function takeDue(pool: Pool, limit: number): Promise<DueRefund[]> {
  return inTransaction(pool, async (connection) => {
    const due = await selectRows(
      connection,
      dueRow,
      `SELECT ${DUE} FROM payments
           WHERE engine_due_at <= NOW(3) ORDER BY engine_due_at LIMIT ? FOR UPDATE SKIP LOCKED`,
      [limit],
    );
    if (due.length === 0) return [];
    const ids = due.map(({ paymentId }) => paymentId);
    const until = await takeLease(connection, LEASED, ids, CLAIM_MS);
    return due.map((refund) => ({ ...refund, claimedUntilMs: until.getTime() }));
  });
}

/** Ends the claims of payments whose workflow was started or signalled. */
export function completeDue(pool: Pool, claimed: readonly DueRefund[]): Promise<void> {
  return endClaims(pool, claimed, `engine_due_at = NULL, ${ANEW}`);
}

/**
 * Ends the claims of payments whose workflow was not started or signalled. They are due again at once, each
 * at its place; from its third failure in a row on a payment goes behind the others.
 * @param failed those of them whose start or signal failed; the others were not tried
 */
export async function releaseDue(
  pool: Pool,
  claimed: readonly DueRefund[],
  failed: readonly DueRefund[] = [],
): Promise<void> {
  await endClaims(
    pool,
    claimed.filter((refund) => !failed.includes(refund)),
    KEEP_PLACE,
  );
  await endClaims(pool, failed, COUNT_FAILURE);
}

/** Up to `limit` payments that are to go back, after this one, by their ids. */
export function listOpen(
  pool: Pool,
  after: Pick<OpenRefund, 'paymentId'> | undefined,
  limit: number,
): Promise<OpenRefund[]> {
  return selectRows(
    pool,
    openRow,
    `SELECT ${OPEN}
         FROM payments FORCE INDEX (payments_by_status) WHERE status = 'refund_due' AND payment_id > ?
         ORDER BY payment_id LIMIT ?`,
    [after?.paymentId ?? 0, limit],
  );
}

/**
 * Makes refunds due whose workflow has been lost, unless they are due or claimed by now.
 * @returns those that are due by this call
 */
export function requeue(pool: Pool, paymentIds: readonly number[]): Promise<number[]> {
  return paymentIds.length === 0
    ? Promise.resolve([])
    : inTransaction(pool, async (connection) => {
        const rows = await selectRows(
          connection,
          idRow,
          `SELECT payment_id AS paymentId FROM payments
               WHERE payment_id IN (?) AND status = 'refund_due' AND engine_due_at IS NULL FOR UPDATE`,
          [paymentIds],
        );
        const lost = rows.map(({ paymentId }) => paymentId);
        if (lost.length > 0)
          await modify(connection, 'UPDATE payments SET engine_due_at = NOW(3) WHERE payment_id IN (?)', [
            lost,
          ]);
        return lost;
      });
}
