/**
 * One order in memory, for workflow tests alone. What becomes of it is decided as for a stored order, and its
 * steps can fail, wait and be raced.
 */

import assert from 'node:assert/strict';
import { ApplicationFailure } from '@temporalio/common';
import type { Activities, StockSettled } from '../../../src/activities/index.ts';
import type { PaymentStatus } from '../../../src/money/payment.ts';
import { decide, type Change, type Refusal, type Wish } from '../../../src/orders/change.ts';
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

  function change(wish: Wish): Change | Refusal {
    const state = mustBeStored();
    const hasOpenPage = session === 'open' || session === 'paid-unnoticed';
    const extensionLeftMs = state.reason === null ? extensionMs : 0;
    const locked = { order, state, mayRun: true, isEnding: false, hasOpenPage, extensionLeftMs };
    const decided = decide(locked, wish);
    if (decided.kind === 'changed') stored = decided.states.at(-1) ?? state;
    return decided;
  }

  function applyPayments(): void {
    for (const payment of payments.filter(({ status }) => status === 'received')) {
      const { kind } = change({ kind: 'pay', amount: payment.amount, currency: order.currency });
      payment.status = kind === 'changed' ? 'applied' : kind === 'refund' ? 'refund_due' : 'parked';
    }
  }

  function store(): void {
    stored ??= { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };
    applyPayments();
  }

  function receivePayment(amount = order.total): void {
    payments.push({ amount, status: 'received' });
    if (stored) applyPayments();
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
      applyPayments();
      const state = mustBeStored();
      return { kind: stored.status === 'failed' ? 'abandoned' : 'stored', state, ...endHold(state) };
    }),
    markPaid: step('markPaid', () => ({ ...mustBeStored(), ...endHold(mustBeStored()) })),
    cancelOrder: step('cancelOrder', ({ reason, force }): CancelOutcome & StockSettled => {
      const decided = change({ kind: 'cancel', reason, force, byWorkflow: true });
      if (decided.kind === 'extended') {
        const state = { ...mustBeStored(), extendedUntilMs: Date.now() + decided.leftMs };
        stored = { ...state, version: state.version + 1 };
        extensionMs = 0;
        return { ...decided, state: stored };
      }
      const state = mustBeStored();
      return { kind: isFinal(state.status) ? 'ended' : 'sessions-open', state, ...endHold(state) };
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
    /** Commits the provider's notice, which pays for the order once that is stored, and sends no signal. */
    receivePayment,
    /** Records the shopper's wish to cancel, or another, and sends no signal. */
    requestCancel: (reason: ClosingReason = 'shopper_request') => void change({ kind: 'close', reason }),
    /** Staff extend the deadline: so much is left of it when the workflow comes to cancel the order. */
    extend: (leftMs: number) => void (extensionMs = leftMs),
    openSession: (kind: 'open' | 'paid-unnoticed') => void (session = kind),
    /** persistOrder can never store the order. */
    refuse: (reason: FailureReason) => void (refusal = reason),
  };
}
