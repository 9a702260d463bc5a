/**
 * Changes stored orders: the only writer of their status, payment, closing reason and version. A page of
 * orders is changed in one transaction, with its events, its stock, and what is due after it.
 */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { makeRefundDue, selectPayments, setPaymentStatus, type Payment } from '../money/rows.sql.ts';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../mysql/connection.ts';
import { ANEW, readClockMs } from '../mysql/leases.ts';
import { park, unparkAll } from '../parked/parked.sql.ts';
import { decide, type Change, type LockedOrder, type Refusal, type Wish } from './change.ts';
import { isFinal, type OrderState } from './order.ts';
import { bookMovements, extendedUntilOf, recordEvents, type Booking, type JobCount } from './rows.sql.ts';

/** How long the start of a workflow may take, from its claim. Then another relay may start it. */
export const START_CLAIM_MS = 30_000;
/** The process that committed brings an end to Redis within a second. After this time another one does. */
export const FOLLOW_CLAIM_MS = 10_000;
/** The process that committed signals the workflow at once. When that fails, a relay does after this time. */
const SIGNAL_GRACE_MS = 2_000;

const inMs = (ms: number): string => `NOW(3) + INTERVAL ${ms} * 1000 MICROSECOND`;

/** Nothing of an ended order is due any more, but Redis is to follow. */
const ENDED = `${ANEW}, expiring_due_at = NULL, end_due_at = ${inMs(FOLLOW_CLAIM_MS)}`;
/** `claims.sql.ts` knows by the start that the workflow did it. */
const ENDED_BY_WORKFLOW = `engine_due_at = NULL, workflow_started_at = COALESCE(workflow_started_at, NOW(3)), ${ENDED}`;
/**
 * A workflow that may run is to end, too. A start that was claimed and has not answered may still succeed
 * until its claim runs out.
 */
const ENDED_WITHOUT = `engine_due_at = CASE WHEN workflow_started_at IS NOT NULL THEN ${inMs(SIGNAL_GRACE_MS)}
  WHEN start_tried_at IS NOT NULL
  THEN GREATEST(${inMs(SIGNAL_GRACE_MS)}, start_tried_at + INTERVAL ${START_CLAIM_MS} * 1000 MICROSECOND) END,
  ${ENDED}`;
const NEXT = {
  workflow: `engine_due_at = ${inMs(SIGNAL_GRACE_MS)}, ${ANEW}`,
  ender: `engine_due_at = NULL, ${ANEW}, end_begun_at = NOW(3), end_due_at = NOW(3)`,
};

/** An order after one call: its new `state`, and the decision about the wish. */
export type Outcome<T extends LockedOrder = LockedOrder> = T & {
  decided: Change | Refusal;
  /** This call has changed its state, by the wish or by a payment. */
  isNews: boolean;
};

/**
 * Changes orders, in a transaction of their own.
 * @param lock locks them: by their numbers, or as a page that is due
 * @param also what else the transaction writes, before it counts stock
 * @returns what became of each that is stored
 */
export function changeOrders<T extends LockedOrder>(
  pool: Pool,
  lock: (connection: PoolConnection) => Promise<readonly T[]>,
  wish: Wish,
  also?: (connection: PoolConnection, outcomes: readonly Outcome<T>[]) => Promise<void>,
): Promise<Outcome<T>[]> {
  return inTransaction(pool, async (connection) => {
    const { outcomes, bookings } = await changeLocked(connection, await lock(connection), wish);
    await also?.(connection, outcomes);
    await bookMovements(connection, bookings);
    return outcomes;
  });
}

interface Draft<T> {
  before: T;
  state: OrderState;
  states: OrderState[];
  bookings: (Booking | JobCount)[];
  decided: Change | Refusal;
}

/** The outcomes of a page of orders, and what is to be counted of them. The caller books these last. */
export interface PageOutcome<T extends LockedOrder> {
  outcomes: Outcome<T>[];
  bookings: (Booking | JobCount)[];
}

/** Changes orders that the caller's transaction has locked. */
export async function changeLocked<T extends LockedOrder>(
  connection: PoolConnection,
  orders: readonly T[],
  wish: Wish,
): Promise<PageOutcome<T>> {
  if (orders.length === 0) return { outcomes: [], bookings: [] };
  const orderNos = orders.map(({ order }) => order.orderNo);
  // A payment is applied by the transaction that records it, or that stores its order: no other finds any.
  const received = wish.kind === 'apply-payments' ? await lockReceived(connection, orderNos) : [];
  const paged = wish.kind === 'cancel' && !wish.force ? await findPaged(connection, orderNos) : NONE;
  const drafts: Draft<T>[] = [];
  const applied: number[] = [];
  for (const before of orders) {
    const { orderNo, saleId, items, total } = before.order;
    const hasOpenPage = paged.has(orderNo);
    const asksTime = wish.kind === 'cancel' && wish.byWorkflow;
    const extensionLeftMs = asksTime ? await readExtensionLeftMs(connection, before.state) : 0;
    const draft: Draft<T> = {
      before,
      state: before.state,
      states: [],
      bookings: [],
      decided: { kind: 'same' },
    };
    const apply = (one: Wish): Change | Refusal => {
      const decided = decide({ ...before, state: draft.state, hasOpenPage, extensionLeftMs }, one);
      if (decided.kind !== 'changed') return decided;
      draft.states.push(...decided.states);
      draft.state = decided.states.at(-1) ?? draft.state;
      if (decided.movement) draft.bookings.push({ movement: decided.movement, orderNo, saleId, items });
      if (decided.movement === 'release' && draft.state.reason === 'called_off')
        draft.bookings.push({ counter: 'cancelled', saleId, items, amount: total });
      return decided;
    };
    for (const payment of received.filter((one) => one.orderNo === orderNo)) {
      const decided = apply({ kind: 'pay', ...payment });
      if (decided.kind === 'changed') applied.push(payment.paymentId);
      else await refusePayment(connection, before, payment, decided);
      if (decided.kind === 'refund' && draft.state.reason === 'called_off')
        draft.bookings.push({ counter: 'late', saleId, items, amount: payment.amount });
    }
    draft.decided = apply(wish);
    drafts.push(draft);
  }
  if (applied.length > 0) await applyPayments(connection, applied);
  await writeOrders(connection, drafts, wish);
  return {
    outcomes: drafts.map(({ before, state, states, decided }) => {
      return { ...before, state, decided, isNews: states.length > 0 };
    }),
    bookings: drafts.flatMap(({ bookings }) => bookings),
  };
}

const NONE: ReadonlySet<string> = new Set();
const orderNoRow = z.object({ order_no: z.string() });

/** The payments of these orders that are not decided, the first first. */
export function lockReceived(connection: PoolConnection, orderNos: readonly string[]): Promise<Payment[]> {
  return selectPayments(
    connection,
    // By the index on the status MySQL would read and lock all undecided payments.
    `order_no IN (?) AND status = 'received' ORDER BY payment_id FOR UPDATE`,
    [orderNos],
    ' FORCE INDEX (payments_of_order)',
  );
}

/** Finds the orders that may have an open payment page. */
async function findPaged(connection: PoolConnection, orderNos: readonly string[]): Promise<Set<string>> {
  const rows = await selectRows(
    connection,
    orderNoRow,
    `SELECT DISTINCT order_no FROM payment_sessions FORCE INDEX (sessions_of_order)
     WHERE order_no IN (?) AND status IN ('opening', 'open')`,
    [orderNos],
  );
  return new Set(rows.map((row) => row.order_no));
}

/**
 * How many ms of an extended deadline are left. 0: it has passed or was not extended, or the order is ending
 * anyway.
 * The deadline is by Redis' clock. Of these two the one that is behind decides, as for a payment session.
 */
async function readExtensionLeftMs(
  connection: PoolConnection,
  { extendedUntilMs, reason }: OrderState,
): Promise<number> {
  if (extendedUntilMs === undefined || reason !== null) return 0;
  const nowMs = Math.min(await readClockMs(connection), Date.now());
  return Math.max(0, extendedUntilMs - nowMs);
}

async function applyPayments(connection: PoolConnection, paymentIds: readonly number[]): Promise<void> {
  await modify(
    connection,
    `UPDATE payments SET status = 'applied', applied_at = NOW(3) WHERE payment_id IN (?)`,
    [paymentIds],
  );
}

/** A wrong amount or currency is parked, and never kept silently. */
async function refusePayment(
  connection: PoolConnection,
  { order: { orderNo, total, currency } }: LockedOrder,
  { paymentId, providerPaymentId, ...paid }: Payment,
  refusal: Refusal,
): Promise<void> {
  if (refusal.kind === 'refund') return makeRefundDue(connection, paymentId, refusal.reason);
  assert.equal(refusal.kind, 'wrong-amount');
  await setPaymentStatus(connection, paymentId, 'parked');
  const reason = `order ${orderNo} costs ${total} ${currency}, paid were ${paid.amount} ${paid.currency}`;
  const inputs = { orderNo, total, currency, paid: paid.amount, paidCurrency: paid.currency };
  await park(connection, 'payment', providerPaymentId, reason, { cause: 'wrong_amount', inputs });
}

async function writeOrders<T extends LockedOrder>(
  connection: PoolConnection,
  drafts: readonly Draft<T>[],
  wish: Wish,
): Promise<void> {
  const changed = drafts.filter(({ states, decided }) => states.length > 0 || decided.kind === 'changed');
  if (changed.length === 0) return;
  // Orders that change alike are one statement: of a page one or two are left.
  const groups = new Map<string, { set: string; values: unknown[]; orderNos: string[] }>();
  for (const draft of changed) {
    const { set, values } = assignmentsOf(draft, wish);
    const key = JSON.stringify([set, values]);
    const group = groups.get(key) ?? { set, values, orderNos: [] };
    group.orderNos.push(draft.before.order.orderNo);
    groups.set(key, group);
  }
  for (const { set, values, orderNos } of groups.values()) {
    const sql = `UPDATE orders SET version = version + ?, ${set} WHERE order_no IN (?)`;
    const count = await modify(connection, sql, [...values, orderNos]);
    assert.equal(count, orderNos.length, 'locked orders change');
  }
  await recordEvents(
    connection,
    changed.flatMap(({ before: { order }, states }) =>
      states.map((state) => ({ orderNo: order.orderNo, state })),
    ),
  );
  const ended = changed.filter(isEnd).map(({ before: { order } }) => order.orderNo);
  if (ended.length > 0) await unparkAll(connection, 'order', ended);
}

function isEnd({ before, state }: Pick<Draft<LockedOrder>, 'before' | 'state'>): boolean {
  return isFinal(state.status) && !isFinal(before.state.status);
}

function assignmentsOf(draft: Draft<LockedOrder>, wish: Wish): { set: string; values: unknown[] } {
  const { before, state, states, decided } = draft;
  const byWorkflow = 'byWorkflow' in wish && wish.byWorkflow;
  const next = decided.kind === 'changed' && decided.next ? NEXT[decided.next] : '';
  const due = isEnd(draft) ? (byWorkflow ? ENDED_BY_WORKFLOW : ENDED_WITHOUT) : next;
  const columns = (of: OrderState) => ({
    status: of.status,
    payment: of.payment,
    closing_reason: of.reason,
    refunded: of.refunded ?? 0,
    extended_until: extendedUntilOf(of),
  });
  const was = Object.entries(columns(before.state));
  const set = Object.entries(columns(state)).filter(
    // As JSON, because a date as a text has no milliseconds.
    ([, value], i) => JSON.stringify(value) !== JSON.stringify(was[i]?.[1]),
  );
  const assignments = [...set.map(([column]) => `${column} = ?`), ...(due === '' ? [] : [due])];
  return { set: assignments.join(', '), values: [states.length, ...set.map(([, value]) => value)] };
}
