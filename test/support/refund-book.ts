/** One refund in memory, decided about as MySQL and the provider do: for workflow tests alone. */

import type { RefundActivities } from '../../src/activities/refunds.ts';
import { createStepper } from './stepper.ts';

type RefundStep = keyof RefundActivities;

/** nothing: due no more, or never. slow: the provider takes the refund on, and finishes it when it likes. */
type Money = 'nothing' | 'due' | 'due-slow' | 'pending' | 'refunded';

export type RefundBook = ReturnType<typeof createRefundBook>;

/** @param retryDelayMs where given, a failing step is tried again after this time instead of the workflow's own delays */
export function createRefundBook({ retryDelayMs }: { retryDelayMs?: number } = {}) {
  const { step, controls } = createStepper<RefundStep>(retryDelayMs);
  let money: Money = 'due';
  let givenBackWhile: Money | undefined;
  const parked: string[] = [];
  let isParked = false;

  const activities: RefundActivities = {
    refundPayment: step('refundPayment', () => {
      if (money === 'nothing') return 'nothing-due';
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
    /** Reasons, each time it was shown to a person anew. */
    parked,
    isParked: () => isParked,
    money: () => money,
    /** Where the money was when limit and stock came back; undefined: they have not. */
    givenBackWhile: () => givenBackWhile,
    is: (next: Money) => void (money = next),
  };
}
