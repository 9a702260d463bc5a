/**
 * One order in memory for workflow tests alone: it decides as
 * MySQL and Redis do, and its steps can fail, wait and be raced.
 */

import assert from 'node:assert/strict';
import { ApplicationFailure } from '@temporalio/common';
import type { Activities, StockSettled } from '../../../src/activities/index.ts';
import type { PaymentStatus } from '../../../src/money/payment.ts';
import type { Order } from '../../../src/orders/content.ts';
import {
  isFinal,
  type ClosingReason,
  type FailureReason,
  type OrderState,
} from '../../../src/orders/order.ts';
import type { CancelOutcome } from '../../../src/orders/orders.sql.ts';
import { ORDER_REFUSED } from '../../../src/workflows/contract.ts';
import type { RefundActivities } from './refund-activities.ts';
import { createStepper } from './stepper.ts';

type OrderActivities = Omit<Activities, keyof RefundActivities>;
export type Step = keyof OrderActivities;
interface Payment {
  amount: number;
  status: PaymentStatus;
}

export type OrderBook = ReturnType<typeof createOrderBook>;

/**
 * @param retryDelayMs where given, a failing step is tried
 * again after this time instead of the workflow's own delays
 * @param settlesStock the step that ends the order settles its stock too, as it does while Redis is well
 */
export function createOrderBook(
  order: Order,
  { retryDelayMs, settlesStock = false }: { retryDelayMs?: number; settlesStock?: boolean } = {},
) {
  const { step, controls } = createStepper<Step>(retryDelayMs);
  let stored: OrderState | undefined;
  let refusal: FailureReason | undefined;
  let session: 'none' | 'open' | 'paid-unnoticed' | 'closed' = 'none';
  /** Shows in the end result when stock moved before the order's end was committed. */
  let stock: 'held' | 'sold' | 'released' | 'moved too early' = 'held';
  const payments: Payment[] = [];
  let extensionMs = 0;
  let unparked = 0;
  const parked: string[] = [];

  function mustBeStored(): OrderState {
    assert(stored, `order ${order.orderNo} is not stored`);
    return stored;
  }

  function change(next: Partial<OrderState>): OrderState {
    const current = mustBeStored();
    stored = { ...current, ...next, version: current.version + 1 };
    return stored;
  }

  /**
   * The wrong amount is parked; the first right one is the order's, if it still waits; any other goes back.
   */
  function settle(): void {
    for (const payment of payments.filter(({ status }) => status === 'received')) {
      const { status, payment: known } = mustBeStored();
      if (payment.amount !== order.total) payment.status = 'parked';
      else if (status !== 'awaiting_payment') payment.status = 'refund_due';
      else if (known === 'none') change({ payment: 'received' });
    }
  }

  function store(): void {
    stored ??= { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };
    settle();
  }

  function receivePayment(amount = order.total): void {
    payments.push({ amount, status: 'received' });
    if (stored) settle();
  }

  function endHold({ status }: OrderState): StockSettled {
    if (!settlesStock || !isFinal(status)) return {};
    stock = status === 'paid' ? 'sold' : 'released';
    return { stockSettled: true };
  }

  const activities: OrderActivities = {
    persistOrder: step('persistOrder', () => {
      if (!stored && refusal) throw ApplicationFailure.nonRetryable('refused', ORDER_REFUSED, refusal);
      store();
      return { ...mustBeStored(), ...endHold(mustBeStored()) };
    }),
    abandonOrder: step('abandonOrder', ({ reason }: { reason: FailureReason }) => {
      stored ??= { status: 'failed', version: 1, payment: 'none', reason };
      settle();
      const state = mustBeStored();
      return { kind: stored.status === 'failed' ? 'abandoned' : 'stored', state, ...endHold(state) };
    }),
    markPaid: step('markPaid', () => {
      const { status, payment } = mustBeStored();
      if (status !== 'awaiting_payment' || payment !== 'received')
        return { ...mustBeStored(), ...endHold(mustBeStored()) };
      for (const received of payments.filter((each) => each.status === 'received'))
        received.status = 'applied';
      const state = change({ status: 'paid', payment: 'applied', reason: null });
      return { ...state, ...endHold(state) };
    }),
    cancelOrder: step('cancelOrder', ({ reason, force }): CancelOutcome & StockSettled => {
      const { status, payment, reason: known } = mustBeStored();
      if (isFinal(status)) return { kind: 'ended', state: mustBeStored(), ...endHold(mustBeStored()) };
      if (payment === 'received') return { kind: 'payment-received', state: mustBeStored() };
      if (extensionMs > 0 && known === null && reason === 'payment_timeout' && !force) {
        const leftMs = extensionMs;
        extensionMs = 0;
        return { kind: 'extended', state: change({ extendedUntilMs: Date.now() + leftMs }), leftMs };
      }
      if (known === null) change({ reason });
      const isOpen = session === 'open' || session === 'paid-unnoticed';
      if (isOpen && !force) return { kind: 'sessions-open', state: mustBeStored() };
      const state = change({ status: 'cancelled' });
      return { kind: 'ended', state, ...endHold(state) };
    }),
    confirmStock: step('confirmStock', () => {
      stock = stored?.status === 'paid' ? 'sold' : 'moved too early';
    }),
    releaseStock: step('releaseStock', () => {
      const isAbandoned = stored?.status === 'cancelled' || stored?.status === 'failed';
      stock = isAbandoned ? 'released' : 'moved too early';
    }),
    voidPaymentSessions: step('voidPaymentSessions', () => {
      if (session === 'paid-unnoticed') receivePayment();
      session = 'closed';
    }),
    parkOrder: step('parkOrder', ({ reason }: { reason: string }) => {
      parked.push(reason);
    }),
    unparkOrder: step('unparkOrder', () => {
      unparked += 1;
    }),
  };

  return {
    ...controls,
    activities,
    parked,
    unparked: () => unparked,
    payments,
    state: () => stored,
    stock: () => stock,
    /** The relay or the API stores the order, or a write that took long arrives. */
    store,
    /** Commits the provider's notice to the inbox, and sends no signal. */
    receivePayment,
    /** Records the shopper's wish to cancel, or another, and sends no signal. */
    requestCancel: (reason: ClosingReason = 'shopper_request') => void change({ reason }),
    /** Staff extend the deadline: so much is left of it when the workflow comes to cancel the order. */
    extend: (leftMs: number) => void (extensionMs = leftMs),
    openSession: (kind: 'open' | 'paid-unnoticed') => void (session = kind),
    /** persistOrder can never store the order. */
    refuse: (reason: FailureReason) => void (refusal = reason),
  };
}
