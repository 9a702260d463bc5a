/** Stored orders, and the changes of their status, each conditional and under the lock of the order's row. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { PROJECTION_TTL_MS } from '../limits.ts';
import { selectRows, type Pool, type PoolConnection } from '../mysql/connection.ts';
import { recordAction, type Decision, park as parkWork, unpark as unparkWork } from '../parked/parked.sql.ts';
import { changeOrders, type Outcome } from './change.sql.ts';
import type { Wish } from './change.ts';
import { isFinal, type ClosingReason, type OrderState } from './order.ts';
import { lockOrder, readOrders, type StoredOrder } from './rows.sql.ts';

/**
 * ended: the order is final, by this call or an earlier one; it may be paid. sessions-open: the shopper might
 * still pay, so the caller must void the sessions and cancel again. extended: staff have given the shopper so
 * much more time.
 */
export type CancelOutcome =
  | { kind: 'ended' | 'sessions-open'; state: OrderState }
  | { kind: 'extended'; state: OrderState; leftMs: number };

/** `isNews`: this very call recorded the wish. */
export type WishRecorded = Pick<StoredOrder, 'order' | 'state' | 'windowEndsAtMs'> & { isNews: boolean };

/** An outbox entry that no relay can work on. */
export interface UnusableEntry {
  /** `Outbox.referenceOf` the entry. */
  reference: string;
  orderNo: string;
  cause: 'outbox_entry_unreadable' | 'order_refused' | 'paid_order_refused';
  reason: string;
}

/** Undefined when the order is not stored. */
export async function read(pool: Pool, orderNo: string): Promise<StoredOrder | undefined> {
  return (await readOrders(pool, [orderNo]))[0];
}

/** Those of these orders that are stored. */
export function readAll(pool: Pool, orderNos: readonly string[]): Promise<StoredOrder[]> {
  return readOrders(pool, orderNos);
}

/** The order as its payment has made it. Its workflow asks, which is told so by a signal. */
export async function markPaid(pool: Pool, orderNo: string): Promise<OrderState> {
  const wish = { kind: 'apply-payments', byWorkflow: true } as const;
  return (await changeOne(pool, orderNo, wish)).state;
}

/** awaiting_payment → cancelled, as its workflow wishes. `force`: even with open sessions. */
export async function cancel(
  pool: Pool,
  orderNo: string,
  reason: ClosingReason,
  { force }: { force: boolean },
): Promise<CancelOutcome> {
  const wish = { kind: 'cancel', reason, force, byWorkflow: true } as const;
  const { state, decided } = await changeOne(pool, orderNo, wish);
  if (decided.kind === 'extended') return { ...decided, state };
  return { kind: isFinal(state.status) ? 'ended' : 'sessions-open', state };
}

/**
 * Records that the shopper wants to cancel, where the order awaits payment. From then on no payment session
 * opens, and the workflow cancels the order.
 * @param by staff, where it is not the shopper who wants it; or why it is wished
 * @returns the order as it is now
 */
export async function requestCancel(
  pool: Pool,
  orderNo: string,
  by: Decision | 'shopper_request' | 'wait_timeout' = 'shopper_request',
): Promise<WishRecorded> {
  const staff = typeof by === 'object' ? by : undefined;
  const reason = typeof by === 'object' ? 'operator_request' : by;
  const detail = { before: 'awaiting_payment', after: 'cancelled' };
  const recorded = await changeOne(
    pool,
    orderNo,
    { kind: 'close', reason },
    async (connection, { decided }) => {
      if (staff && decided.kind === 'changed')
        await recordAction(connection, { ...staff, action: 'cancel_requested', subject: orderNo, detail });
    },
  );
  return { ...recorded, isNews: recorded.decided.kind === 'changed' };
}

/**
 * Parks the order for an operator: this step keeps failing, and its workflow goes on trying.
 * @param step the words by which the Web UI shows it; null: of a workflow from before it was recorded
 */
export function park(pool: Pool, orderNo: string, reason: string, step: string | null): Promise<void> {
  return parkWork(pool, 'order', orderNo, reason, { cause: 'step_failing', inputs: { orderNo, step } });
}

/**
 * Parks an ended order whose hold is missing in Redis; not one that ended so long ago that its hold has
 * expired, whose step is only repeated.
 */
export async function parkLostHold(pool: Pool, orderNo: string): Promise<void> {
  if (await hasEndedLongAgo(pool, orderNo)) return;
  const reason = 'it has ended, and the hold that was to be settled is not in Redis';
  await parkWork(pool, 'order', orderNo, reason, { cause: 'hold_lost', inputs: { orderNo } });
}

/** Ends the parking once the order's step has succeeded. */
export function unpark(pool: Pool, orderNo: string): Promise<void> {
  return unparkWork(pool, 'order', orderNo);
}

/** Parks an outbox entry whose order cannot be read, started or stored. */
export function parkOutboxEntry(
  pool: Pool,
  { reference, orderNo, cause, reason }: UnusableEntry,
): Promise<void> {
  return parkWork(pool, 'outbox_entry', reference, reason, { cause, inputs: { orderNo } });
}

/** @throws when the order is not stored */
function mustLock(orderNo: string) {
  return async (connection: PoolConnection): Promise<[StoredOrder]> => {
    const stored = await lockOrder(connection, orderNo);
    assert(stored, `order ${orderNo} is not stored`);
    return [stored];
  };
}

async function changeOne(
  pool: Pool,
  orderNo: string,
  wish: Wish,
  also?: (connection: PoolConnection, outcome: Outcome) => Promise<void>,
): Promise<Outcome<StoredOrder>> {
  const [outcome] = await changeOrders(pool, mustLock(orderNo), wish, async (connection, [changed]) => {
    if (changed) await also?.(connection, changed);
  });
  assert(outcome, `order ${orderNo} is locked`);
  return outcome;
}

async function hasEndedLongAgo(pool: Pool, orderNo: string): Promise<boolean> {
  const ends = await selectRows(
    pool,
    z.object({ version: z.int() }),
    `SELECT version FROM order_events WHERE order_no = ? AND status IN ('paid', 'cancelled', 'failed')
       AND occurred_at < NOW(3) - INTERVAL ? * 1000 MICROSECOND LIMIT 1`,
    [orderNo, PROJECTION_TTL_MS],
  );
  return ends.length > 0;
}
