/** The life of one accepted order: its stock is held in Redis; here it is stored, and paid or given back. */

import {
  allHandlersFinished,
  CancellationScope,
  condition,
  proxySinks,
  setHandler,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { StockSettled } from '../activities/index.ts';
import type { Order } from '../orders/content.ts';
import { CLOSING_REASONS, isFinal, type ClosingReason, type OrderState } from '../orders/order.ts';
import {
  cancelRequested,
  paymentReceived,
  searchAttributes,
  statusQuery,
  type CancelRequest,
  type EngineSinks,
  type OrderWindow,
} from './contract.ts';
import { createSteps, type Steps, type Parking, SUMMARIES } from './steps.ts';

const { engineBudget } = proxySinks<EngineSinks>();

/** Where two clocks differ about an extended deadline that is about to pass. */
const LEAST_WAIT_MS = 1_000;

export async function OrderWorkflow(
  order: Order,
  storedAhead?: OrderState,
  window?: OrderWindow,
): Promise<OrderState> {
  const { orderNo } = order;
  const steps = createSteps(orderParking(orderNo));
  let state: OrderState = storedAhead ?? { status: 'queued', version: 0, payment: 'none', reason: null };
  let isStockSettled = false;
  let paymentNoticed = false;
  let cancelReason: ClosingReason | undefined;

  // Handlers only record; the main line decides.
  setHandler(statusQuery, () => state);
  setHandler(paymentReceived, () => {
    paymentNoticed = true;
  });
  setHandler(cancelRequested, (request) => wish(reasonOf(request)));
  // Cancelling the workflow itself, say in the Web UI, is a wish to cancel the order: it must not cut a step
  // short.
  CancellationScope.current().cancelRequested.catch(() => wish('operator_request'));

  await CancellationScope.nonCancellable(async () => {
    // A step would give the engine's slot back; without one the worker does.
    if (storedAhead) engineBudget.release(orderNo);
    else become(await storeOrAbandon(steps, order));
    // The wish to cancel is recorded before it is signalled: an order stored ahead may meet it here first.
    if (state.reason !== null) cancelReason ??= 'shopper_request';

    // Payment sessions open and take money until the order's deadline, and money that still comes before the
    // cancel counts. The window here runs from the workflow's start, so that wake-ups come at the pace of
    // starts, never as a herd. A workflow that is started again goes on with the window of the first.
    // Where staff have extended the deadline, the step that would cancel the order says for how long.
    let windowEndsAtMs = window?.endsAtMs ?? workflowInfo().startTime.getTime() + order.paymentWindowMs;
    while (!isFinal(state.status)) {
      const leftMs = Math.max(windowEndsAtMs - Date.now(), 1);
      await condition(() => paymentNoticed || cancelReason !== undefined, leftMs, {
        summary: SUMMARIES.paymentWindow,
      });
      if (paymentNoticed) {
        paymentNoticed = false;
        become(await steps.markPaid({ orderNo }));
      } else {
        const outcome = await cancel(steps, orderNo, cancelReason ?? 'payment_timeout');
        become(afterStep(outcome));
        if (outcome.kind === 'extended') {
          windowEndsAtMs = Date.now() + Math.max(outcome.leftMs, LEAST_WAIT_MS);
          // Signalled too early: the later window decides. A wish of a person stays.
          if (cancelReason === 'payment_timeout') cancelReason = undefined;
        }
      }
    }

    // The step that ended the order has settled its stock as well, unless Redis failed meanwhile.
    if (!isStockSettled) {
      if (state.status === 'paid') await steps.confirmStock({ orderNo });
      else await steps.releaseStock({ orderNo });
    }
    await condition(allHandlersFinished);
  });
  return state;

  /** The first stays, but a time-out, which a later deadline sets aside, gives way to a person's wish. */
  function wish(reason: ClosingReason): void {
    if (cancelReason === undefined || cancelReason === 'payment_timeout') cancelReason = reason;
  }

  function become({ stockSettled, ...next }: OrderState & StockSettled): void {
    if (next.status !== state.status)
      upsertSearchAttributes([{ key: searchAttributes.status, value: next.status }]);
    state = next;
    isStockSettled = stockSettled === true;
  }
}

/**
 * A wish to cancel that came without a reason of ours was sent by an operator, say in the Web UI. A handler
 * that throws would keep the workflow from going on for ever.
 */
function reasonOf(request: Partial<CancelRequest> | null | undefined): ClosingReason {
  const reason: unknown = request?.reason;
  return CLOSING_REASONS.find((known) => known === reason) ?? 'operator_request';
}

/**
 * Abandons an order that MySQL refuses, or that cannot be stored before its deadline because MySQL is away.
 * The tombstone comes before the stock goes back, so that no slow write can bring the order to life
 * afterwards; if one came first, the order lives. Where there is no workflow, `abandonOrder` in
 * `src/orders/both-stores.ts` does the same.
 */
async function storeOrAbandon(steps: Steps, order: Order): Promise<OrderState & StockSettled> {
  const stored = await steps.storeOrder(order);
  if (stored.kind === 'stored') return stored.state;
  return afterStep(await steps.abandonOrder({ order, reason: stored.reason }));
}

function afterStep({ state, stockSettled }: { state: OrderState } & StockSettled): OrderState & StockSettled {
  return { ...state, ...(stockSettled && { stockSettled }) };
}

/** Payment sessions are closed first, so that an order that is being cancelled cannot be paid. */
async function cancel(steps: Steps, orderNo: string, reason: ClosingReason) {
  const outcome = await steps.cancelOrder({ orderNo, reason, force: false });
  if (outcome.kind !== 'sessions-open') return outcome;
  await steps.closeSessions({ orderNo });
  return steps.cancelOrder({ orderNo, reason, force: true });
}

function orderParking(orderNo: string): Parking {
  return {
    park: (activities, failure) => activities.parkOrder({ orderNo, ...failure }),
    unpark: (activities) => activities.unparkOrder({ orderNo }),
  };
}
