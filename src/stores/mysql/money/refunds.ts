/** Refunds: what their workflow reads and records, and what operators decide about them. */

import { z } from 'zod';
import type { PaymentStatus, Reversal } from '../../../domain/payment.ts';
import { sumReversals } from '../../../domain/reversals.ts';
import { modify, selectRows, type Executor, type Pool } from '../connection.ts';
import { park as parkWork, unpark as unparkWork } from '../rows/parked.ts';
import { readPayment, type PaymentRef } from './payment.ts';
import { IS_GIVE_BACK_DUE } from './refund.ts';
import { readReversals } from './reversals.ts';

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

/** Undefined when there is no such payment. */
export async function read(pool: Pool, which: PaymentRef): Promise<RefundTask | undefined> {
  const payment = await readPayment(pool, which);
  if (!payment) return undefined;
  const { reason: _, wasApplied: __, ...task } = payment;
  const reversals = await readReversals(pool, [task.provider, task.providerPaymentId]);
  const chargedBack = sumDisputes(task.currency, reversals);
  return { ...task, ...(await readTargets(pool, task.paymentId)), reversals, chargedBack };
}

/** Counts a refusal, which changes the key of the next request: the same key gets the same answer. */
export async function recordRefusal(
  pool: Pool,
  { paymentId, providerPaymentId }: Pick<RefundTask, 'paymentId' | 'providerPaymentId'>,
): Promise<void> {
  await modify(
    pool,
    `UPDATE payments SET refund_refusals = refund_refusals + 1
         WHERE payment_id = ? AND provider_payment_id = ?`,
    [paymentId, providerPaymentId],
  );
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
  const { providerPaymentId, orderNo, amount, currency } = payment;
  const inputs = { paymentId, orderNo, amount, currency, step };
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

function sumDisputes(currency: string, reversals: readonly Reversal[]): number {
  const { succeeded, pending } = sumReversals(
    currency,
    reversals.filter(({ kind }) => kind === 'dispute'),
  );
  return succeeded + pending;
}
