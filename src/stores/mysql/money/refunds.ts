/** Refunds: what their workflow reads and records, and what operators decide about them. */

import { z } from 'zod';
import type { GiveBack } from '../../../domain/order.ts';
import type { PaymentStatus, Reversal } from '../../../domain/payment.ts';
import type { RefundWish } from '../../../domain/refund-wish.ts';
import { sumReversals } from '../../../domain/reversals.ts';
import { inTransaction, modify, selectRows, type Executor, type Pool } from '../connection.ts';
import { recordAction, type Decision } from '../rows/audit-log.ts';
import { park, unpark } from '../rows/parked.ts';
import {
  lockPaymentAndOrder,
  makeIdleRefundSignalDue,
  makeRefundDue,
  readPayment,
  type LockedPayment,
  type PaymentRef,
} from '../rows/payment-rows.ts';
import { IS_GIVE_BACK_DUE, readRefundsOf, type Refund } from '../rows/refund-rows.ts';
import { readReversals } from '../rows/reversal-rows.ts';
import { bookGiveBacks, readGiveBacks, returnStock } from './give-backs.ts';
import {
  requestRefund,
  requestWholePayment,
  type RefundRequestKey,
  type RequestRefundOutcome,
} from './refund-requests.ts';
import { withdrawRefund, type WithdrawOutcome } from './refund-requests.ts';
import { recordAndSettleReversals, type ReportedBy } from './reversals.ts';

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
  cause: 'step_failing' | 'refund_slow';
  /** The words by which the Web UI shows the step; null: of a workflow from before it was recorded. */
  step: string | null;
}

export type Refunds = ReturnType<typeof createRefunds>;

export function createRefunds(pool: Pool) {
  return {
    /** Undefined when there is no such payment. */
    async read(which: PaymentRef): Promise<RefundTask | undefined> {
      const payment = await readPayment(pool, which);
      if (!payment) return undefined;
      const { reason: _, wasApplied: __, ...task } = payment;
      const reversals = await readReversals(pool, [task.provider, task.providerPaymentId]);
      const chargedBack = sumDisputes(task.currency, reversals);
      return { ...task, ...(await readTargets(pool, task.paymentId)), reversals, chargedBack };
    },

    /**
     * Records reversals, in any order and any number of times, and settles their payments, one transaction
     * for each payment.
     * @param reportedBy a refund workflow that reports a reversal itself is not signalled about it
     */
    async recordReversals(
      provider: string,
      reversals: readonly Reversal[],
      reportedBy: ReportedBy = 'workflow',
    ): Promise<void> {
      const paymentIds = new Set(reversals.map(({ providerPaymentId }) => providerPaymentId));
      for (const paymentId of paymentIds) {
        const ofPayment = reversals.filter(({ providerPaymentId }) => providerPaymentId === paymentId);
        await inTransaction(pool, (connection) =>
          recordAndSettleReversals(connection, provider, paymentId, ofPayment, reportedBy),
        );
      }
    },

    /** Counts a refusal, which changes the key of the next request: the same key gets the same answer. */
    async recordRefusal({
      paymentId,
      providerPaymentId,
    }: Pick<RefundTask, 'paymentId' | 'providerPaymentId'>): Promise<void> {
      await modify(
        pool,
        `UPDATE payments SET refund_refusals = refund_refusals + 1
         WHERE payment_id = ? AND provider_payment_id = ?`,
        [paymentId, providerPaymentId],
      );
    },

    /** Books the stock and the limit that ended refunds of the payment give back, each once. */
    bookGiveBacks: (paymentId: number): Promise<void> => bookGiveBacks(pool, paymentId),

    /**
     * What is booked as given back. Empty when the payment never paid for its order, or neither the sale's
     * rule nor an operator gives anything back.
     */
    readGiveBacks: (paymentId: number): Promise<GiveBack[]> => readGiveBacks(pool, paymentId),

    /** The refunds that staff requested of an order, the oldest first. */
    readOf: (orderNo: string): Promise<Refund[]> => readRefundsOf(pool, orderNo),

    /** Staff send back all or a part of an order's money. A repeat under its key returns the same refund. */
    requestByOrder: (
      orderNo: string,
      wish: RefundWish,
      decision: Decision,
      key: RefundRequestKey,
    ): Promise<RequestRefundOutcome> =>
      inTransaction(pool, (connection) => requestRefund(connection, orderNo, wish, decision, key)),

    /** Staff withdraw a refund whose money is not on its way. A repeat returns the same. */
    withdraw: (orderNo: string, refundId: number, decision: Decision): Promise<WithdrawOutcome> =>
      inTransaction(pool, (connection) => withdrawRefund(connection, orderNo, refundId, decision)),

    /** Parks a refund that keeps failing, for an operator. Its workflow goes on trying. */
    async park(paymentId: number, reason: string, { cause, step }: RefundFailure): Promise<void> {
      const payment = await readPayment(pool, { paymentId });
      if (!payment) return;
      const { providerPaymentId, orderNo, amount, currency } = payment;
      const inputs = { paymentId, orderNo, amount, currency, step };
      await park(pool, 'refund', providerPaymentId, reason, { cause, inputs });
    },

    /** Ends the parking once the refund has succeeded. */
    async unpark(paymentId: number): Promise<void> {
      const payment = await readPayment(pool, { paymentId });
      if (payment) await unpark(pool, 'refund', payment.providerPaymentId);
    },

    /**
     * An operator requests a refund, and may say why. A repeat returns the same, and makes the refund
     * workflow due where it is not. not-refundable: the payment went back already, or its order is about to
     * decide about it.
     */
    request: (
      paymentId: number,
      actor: string,
      why: string | null = null,
    ): Promise<'requested' | 'not-refundable' | 'unknown'> =>
      inTransaction(pool, async (connection) => {
        const locked = await lockPaymentAndOrder(connection, paymentId);
        if (!locked) return 'unknown';
        const { status, providerPaymentId, orderNo, amount, currency, refundTarget } = locked.payment;
        const isAllRequested = refundTarget >= amount;
        if (status === 'refund_due') await makeIdleRefundSignalDue(connection, paymentId);
        if (isAllRequested) return 'requested';
        if (!isRefundable(locked)) return 'not-refundable';
        await unpark(connection, 'payment', providerPaymentId);
        const decision = { actor, reason: why };
        if (locked.payment.wasApplied && (await requestWholePayment(connection, orderNo, decision)))
          return 'requested';
        await makeRefundDue(connection, paymentId, 'operator_request');
        const subject = `payment ${paymentId}`;
        const detail = { orderNo, amount, currency, before: status, after: 'refund_due' };
        await recordAction(connection, { ...decision, action: 'refund_requested', subject, detail });
        return 'requested';
      }),

    /**
     * An operator decides that the units of a refunded order may be sold again. A repeat returns the same.
     */
    returnStock: (
      orderNo: string,
      actor: string,
      why: string | null = null,
    ): Promise<'returned' | 'not-refunded' | 'unknown'> =>
      inTransaction(pool, (connection) => returnStock(connection, orderNo, { actor, reason: why })),
  };
}

/**
 * A received payment is refundable only while its order is not stored. Otherwise its order decides about it.
 */
function isRefundable({ payment, stored }: LockedPayment): boolean {
  return (
    payment.status === 'applied' ||
    payment.status === 'refund_due' ||
    payment.status === 'parked' ||
    (payment.status === 'received' && !stored)
  );
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

function sumDisputes(currency: string, reversals: readonly Reversal[]): number {
  const { succeeded, pending } = sumReversals(
    currency,
    reversals.filter(({ kind }) => kind === 'dispute'),
  );
  return succeeded + pending;
}
