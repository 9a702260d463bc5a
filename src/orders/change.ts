/**
 * Decides what becomes of a stored order. Pure: it reads nothing but the order as it is locked, and
 * `change.sql.ts` writes what it decides.
 */

import { MAX_PAYMENT_WINDOW_MS } from '../limits.ts';
import type { RefundReason } from '../money/payment.ts';
import type { Order } from './content.ts';
import { isFinal, orderDeadlineMs, type ClosingReason, type OrderState, type OrderUnits } from './order.ts';

/** A change of an order that a caller asks for. */
export type Wish =
  /** A payment was recorded for it. `amount` in minor units. */
  | { kind: 'pay'; amount: number; currency: string }
  /** Nothing beyond what its payments change. */
  | { kind: 'apply-payments'; byWorkflow: boolean }
  /**
   * It ends unpaid. `force`: also while its payment pages are open. `byWorkflow`: its workflow asks, and goes
   * on by the answer. Otherwise the ender asks, for an order that no workflow has begun.
   */
  | { kind: 'cancel'; reason: ClosingReason; force: boolean; byWorkflow: boolean }
  /** It is to end: no payment page opens from now on, and its workflow or the ender cancels it. */
  | { kind: 'close'; reason: ClosingReason }
  /** Its deadline moves to `untilMs` (Unix ms). `nowMs` by MySQL's clock. */
  | { kind: 'extend'; untilMs: number; nowMs: number }
  /** Refunds and disputes have changed what is with the shop. `refunded` in minor units. */
  | { kind: 'money'; payment: OrderState['payment']; refunded: number };

/** An order as the caller's transaction has locked it. */
export interface LockedOrder {
  order: Pick<Order, 'orderNo' | 'saleId' | 'total' | 'currency' | 'reservedAtMs' | 'paymentWindowMs'> & {
    items: readonly OrderUnits[];
  };
  state: OrderState;
  /** Its workflow has begun, or a start was tried and may have succeeded. */
  mayRun: boolean;
  /** Its end without a workflow has begun. */
  isEnding: boolean;
}

/** What a wish may depend on beside the order's own row. */
export interface Circumstances {
  /** A payment page may be open at the provider. */
  hasOpenPage: boolean;
  /** What remains of an extended deadline, in ms. */
  extensionLeftMs: number;
}

/**
 * `states`: each version that the order passes through, none where only its next step changes. `movement`: of
 * its stock. `next`: who goes on with it. workflow: it is signalled. ender: payment pages are voided first.
 */
export interface Change {
  kind: 'changed';
  states: OrderState[];
  movement?: 'sell' | 'release';
  next?: 'workflow' | 'ender';
}

/**
 * ended: it is final already. same: it is as wished. extended: staff have given its shopper more time.
 * refund, wrong-amount: the payment does not pay for it.
 */
export type Refusal =
  | { kind: 'ended' | 'same' | 'not-open' | 'wrong-amount' }
  | { kind: 'extended'; leftMs: number }
  | { kind: 'out-of-range'; afterMs: number; untilMs: number }
  | { kind: 'refund'; reason: RefundReason };

export function decide(order: LockedOrder & Circumstances, wish: Wish): Change | Refusal {
  const { state } = order;
  switch (wish.kind) {
    case 'pay':
      return decidePayment(order, wish);
    case 'apply-payments':
      return { kind: 'same' };
    case 'money': {
      const { payment, refunded } = wish;
      const { refunded: before = 0, ...rest } = state;
      if (state.payment === payment && before === refunded) return { kind: 'same' };
      return change(rest, [{ payment, ...(refunded > 0 && { refunded }) }]);
    }
    case 'extend':
      return decideExtension(order, wish);
    case 'close':
      if (isFinal(state.status)) return { kind: 'ended' };
      if (state.reason !== null) return { kind: 'same' };
      return {
        ...change(state, [{ reason: wish.reason }]),
        // Tens of thousands are called off at once. The ender ends many in a transaction.
        next: wish.reason === 'called_off' && !order.mayRun ? 'ender' : 'workflow',
      };
    case 'cancel':
      return decideCancel(order, wish);
    default:
      return wish satisfies never;
  }
}

/** The first payment of the right amount pays for an order that awaits it, also for one that is closing. */
function decidePayment(
  { order: { total, currency }, state }: LockedOrder,
  paid: Extract<Wish, { kind: 'pay' }>,
): Change | Refusal {
  const { status, reason } = state;
  if (paid.amount !== total || paid.currency !== currency) return { kind: 'wrong-amount' };
  if (status === 'awaiting_payment' && reason === 'called_off') return { kind: 'refund', reason };
  if (status === 'awaiting_payment')
    return {
      ...change(state, [{ status: 'paid', payment: 'applied', reason: null }]),
      movement: 'sell',
    };
  return { kind: 'refund', reason: status === 'paid' ? 'duplicate_payment' : 'order_ended' };
}

function decideCancel(
  { state, isEnding, hasOpenPage, extensionLeftMs: leftMs }: LockedOrder & Circumstances,
  { reason, force, byWorkflow }: Extract<Wish, { kind: 'cancel' }>,
): Change | Refusal {
  if (isFinal(state.status)) return { kind: 'ended' };
  // The window of a workflow runs from its start, and knows no later deadline. The ender goes by the
  // deadline.
  if (byWorkflow && !force && reason === 'payment_timeout' && leftMs > 0) return { kind: 'extended', leftMs };
  const closing = state.reason === null ? [{ reason }] : [];
  if (force || !hasOpenPage)
    return { ...change(state, [...closing, { status: 'cancelled' }]), movement: 'release' };
  // Its pages are being voided already. The ender counts its patience from when that began.
  if (state.reason !== null && (byWorkflow || isEnding)) return { kind: 'same' };
  const closed = change(state, closing);
  return byWorkflow ? closed : { ...closed, next: 'ender' };
}

function decideExtension(
  { order, state, isEnding }: LockedOrder,
  { untilMs, nowMs }: Extract<Wish, { kind: 'extend' }>,
): Change | Refusal {
  if (state.status !== 'awaiting_payment' || state.reason !== null || isEnding) return { kind: 'not-open' };
  const deadlineMs = orderDeadlineMs(order, state);
  if (untilMs === deadlineMs) return { kind: 'same' };
  const afterMs = Math.max(deadlineMs, nowMs);
  const latestMs = order.reservedAtMs + MAX_PAYMENT_WINDOW_MS;
  if (untilMs <= afterMs || untilMs > latestMs) return { kind: 'out-of-range', afterMs, untilMs: latestMs };
  return change(state, [{ extendedUntilMs: untilMs }]);
}

function change(before: OrderState, steps: Partial<Omit<OrderState, 'version'>>[]): Change {
  const states: OrderState[] = [];
  for (const step of steps) {
    const last = states.at(-1) ?? before;
    states.push({ ...last, ...step, version: last.version + 1 });
  }
  return { kind: 'changed', states };
}
