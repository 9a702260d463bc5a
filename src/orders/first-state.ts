/** The state in which an order is stored. */

import type { Order } from './content.ts';
import { isFinal, isFree, type OrderState } from './order.ts';

const STORED: OrderState = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };

/** What of an order makes its first state. */
export type StateSource = Pick<Order, 'shown' | 'total' | 'wish'>;

/**
 * An order that MySQL has lost is stored so that its next states come to the versions that they had, or above
 * what is shown. One that was shown as ended and ends otherwise now may stay hidden behind that.
 */
export function storedStateOf({ shown, total }: StateSource): OrderState {
  if (!shown) return STORED;
  const steps = isFree({ total }) ? Number(isFinal(shown.status)) : stepsTo(shown);
  const { extendedUntilMs } = shown;
  return {
    ...STORED,
    version: Math.max(1, shown.version - steps),
    ...(extendedUntilMs !== undefined && { extendedUntilMs }),
  };
}

/**
 * By the transaction that stores it: closing where its caller wishes, and paid where it is free. A wish that
 * was left beside the hold does not close an order that was shown as paid.
 */
export function stateOnceStored(order: StateSource): OrderState {
  const stored = storedStateOf(order);
  if (order.wish && order.shown?.status !== 'paid')
    return { ...stored, reason: order.wish, version: stored.version + 1 };
  if (!isFree(order)) return stored;
  return { ...stored, status: 'paid', payment: 'applied', version: stored.version + 1 };
}

/** The changes from a stored order to this state. One whose wish to cancel is lost is open once more. */
function stepsTo({ status, reason }: OrderState): number {
  if (isFinal(status)) return status === 'paid' ? 1 : 2;
  return reason === null ? 0 : -1;
}
