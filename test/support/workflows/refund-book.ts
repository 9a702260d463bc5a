/** One refund in memory for workflow tests alone: it decides as MySQL and the provider do. */

import type { RefundActivities } from './refund-activities.ts';
import { createStepper } from './stepper.ts';

type RefundStep = keyof RefundActivities;

/**
 * nothing: not due, or never was. slow: the provider accepts
 * the refund, and finishes it when the test says so.
 */
type Money = 'nothing' | 'due' | 'due-slow' | 'pending' | 'refused' | 'refunded';

export type RefundBook = ReturnType<typeof createRefundBook>;

/**
 * @param retryDelayMs where given, a failing step is tried
 * again after this time instead of the workflow's own delays
 */
export function createRefundBook({ retryDelayMs }: { retryDelayMs?: number } = {}) {
  const { step, controls } = createStepper<RefundStep>(retryDelayMs);
  let money: Money = 'due';
  let givenBackWhile: Money | undefined;
  const parked: string[] = [];
  let isParked = false;

  const activities: RefundActivities = {
    refundPayment: step('refundPayment', () => {
      if (money === 'nothing') return 'nothing-due';
      if (money === 'refused') return { cause: 'refund_refused', reason: 'the provider refused the refund' };
      if (money === 'due') money = 'refunded';
      else if (money === 'due-slow') money = 'pending';
      return money === 'pending' ? 'pending' : 'refunded';
    }),
    giveBack: step('giveBack', () => {
      givenBackWhile = money;
    }),
    parkRefund: step('parkRefund', ({ reason }: { reason: string }) => {
      if (!isParked) parked.push(reason);
      isParked = true;
    }),
    unparkRefund: step('unparkRefund', () => {
      isParked = false;
    }),
  };

  return {
    ...controls,
    activities,
    /** Reasons, one each time it was parked anew. */
    parked,
    isParked: () => isParked,
    money: () => money,
    /** Where the money was when limit and stock came back; undefined: they have not. */
    givenBackWhile: () => givenBackWhile,
    is: (next: Money) => void (money = next),
  };
}
