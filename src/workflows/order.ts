/** The life of one accepted order: its stock is held in Redis; here it is stored, and paid or given back. */

import {
  allHandlersFinished,
  CancellationScope,
  condition,
  setHandler,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import {
  isFinal,
  orderDeadlineMs,
  type ClosingReason,
  type Order,
  type OrderState,
} from '../domain/order.ts';
import { cancelRequested, paymentReceived, searchAttributes, statusQuery } from './contract.ts';
import { insist, orderParking, persist, voidSessions } from './steps.ts';

export async function OrderWorkflow(order: Order): Promise<OrderState> {
  const { orderNo } = order;
  const parking = orderParking(orderNo);
  let state: OrderState = { status: 'queued', version: 0, payment: 'none', reason: null };
  let moneyNoticed = false;
  let cancelReason: ClosingReason | undefined;

  // Handlers only record; the main line decides.
  setHandler(statusQuery, () => state);
  setHandler(paymentReceived, () => {
    moneyNoticed = true;
  });
  setHandler(cancelRequested, ({ reason }) => {
    cancelReason ??= reason;
  });
  // Cancelling the workflow itself, say in the Web UI, is a wish to cancel the order: it must not cut a step short.
  CancellationScope.current().cancelRequested.catch(() => {
    cancelReason ??= 'operator_request';
  });

  await CancellationScope.nonCancellable(async () => {
    become(await storeOrAbandon(order));
    moneyNoticed ||= state.payment === 'received';
    // Who wants to cancel writes it down first: an order stored ahead may meet the wish before the signal.
    if (state.reason !== null) cancelReason ??= 'shopper_request';

    // The window runs from the workflow's start: wake-ups come at the pace of starts, never as a herd.
    const windowEndsAtMs = workflowInfo().startTime.getTime() + order.paymentWindowMs;
    while (!isFinal(state.status)) {
      const leftMs = Math.max(windowEndsAtMs - Date.now(), 1);
      await condition(() => moneyNoticed || cancelReason !== undefined, leftMs, {
        summary: 'Payment window',
      });
      if (moneyNoticed) {
        moneyNoticed = false;
        become(await insist(parking, 'Mark paid', (activities) => activities.markPaid({ orderNo })));
      } else {
        const outcome = await cancel(orderNo, cancelReason ?? 'payment_timeout');
        become(outcome.state);
        moneyNoticed ||= outcome.kind === 'payment-received';
      }
    }

    if (state.status === 'paid') {
      await insist(parking, 'Held stock becomes sold', (activities) => activities.confirmStock({ orderNo }));
    } else {
      await insist(parking, 'Give the stock back', (activities) => activities.releaseStock({ orderNo }));
    }
    await condition(allHandlersFinished);
  });
  return state;

  function become(next: OrderState): void {
    if (next.status !== state.status)
      upsertSearchAttributes([{ key: searchAttributes.status, value: next.status }]);
    state = next;
  }
}

/**
 * Only here can an order be given up: when MySQL refuses it, or stays away until the deadline. The tombstone comes before
 * the stock goes back, so that no slow write can bring the order to life afterwards; if one came first, the order lives.
 */
async function storeOrAbandon(order: Order): Promise<OrderState> {
  const stored = await persist(order, orderDeadlineMs(order));
  if (typeof stored !== 'string') return stored;
  const { state } = await insist(orderParking(order.orderNo), 'Give the order up', (activities) =>
    activities.abandonOrder({ order, reason: stored }),
  );
  return state;
}

/** Payment sessions are closed first, so that nobody pays for an order that is being cancelled. */
async function cancel(orderNo: string, reason: ClosingReason) {
  const cancelOnce = (force: boolean) =>
    insist(orderParking(orderNo), `Cancel: ${reason}`, (activities) =>
      activities.cancelOrder({ orderNo, reason, force }),
    );
  const outcome = await cancelOnce(false);
  if (outcome.kind !== 'sessions-open') return outcome;
  await voidSessions(orderNo);
  return cancelOnce(true);
}
