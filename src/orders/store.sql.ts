/** Stores accepted orders, many in a transaction, or puts a tombstone in the place of one. */

import assert from 'node:assert/strict';
import { ulid } from 'ulidx';
import { z } from 'zod';
import { IDEMPOTENCY_TTL_MS } from '../limits.ts';
import { payFree } from '../money/free.sql.ts';
import {
  inTransaction,
  modify,
  selectRows,
  type Pool,
  type PoolConnection,
  isCheckViolation,
  isInvalidValue,
  isUnavailable,
} from '../mysql/connection.ts';
import { ANEW, now, fromNow, type Moment } from '../mysql/leases.ts';
import { unparkAll } from '../parked/parked.sql.ts';
import { closeStored } from './called-off.sql.ts';
import {
  changeLocked,
  FOLLOW_CLAIM_MS,
  lockReceived,
  START_CLAIM_MS,
  type PageOutcome,
} from './change.sql.ts';
import type { LockedOrder } from './change.ts';
import { carriedText, type Carried, type Order } from './content.ts';
import { expiringDueAt } from './deadlines.sql.ts';
import { stateOnceStored, storedStateOf, type StateSource } from './first-state.ts';
import { isFinal, type FailureReason, type OrderState, holdEpochOf, orderDeadlineMs } from './order.ts';
import {
  bookMovements,
  UnknownSkuError,
  lockOrder,
  recordEvents,
  stateColumns,
  toState,
  extendedUntilOf,
} from './rows.sql.ts';

/**
 * Orders stored in one transaction. The gain of a group commit flattens beyond this, and nine halvings find
 * an order that fails its batch (docs/decisions.md).
 */
export const STORE_BATCH_MAX = 500;

/** stored: a slow write had stored the order before, so it goes on. */
export type AbandonOutcome = { kind: 'abandoned'; state: OrderState } | { kind: 'stored'; state: OrderState };

/** As `storeOrders`, for one order. */
export async function storeOrder(
  pool: Pool,
  order: Order,
  presence: WorkflowPresence,
): Promise<StoreOutcome> {
  const outcome = (await storeOrders(pool, [order], presence)).get(order.orderNo);
  assert(outcome, `order ${order.orderNo} was stored without an outcome`);
  return outcome;
}

const saleRow = z.object({
  sale_id: z.string(),
  epoch: z.int(),
  called_off: z.string().nullable(),
  expiring_notice_ms: z.int().nullable(),
});
const holderRow = z.object({ order_no: z.string(), reserved_at: z.date() });

/** stored: durable, with its present state. abandoned: before this call. refused: it can never be stored. */
export type StoreOutcome =
  | { kind: 'stored'; state: OrderState }
  | { kind: 'abandoned'; state: OrderState }
  | { kind: 'refused'; reason: FailureReason };

/**
 * started: the order's workflow runs and stores it. due: the relay starts the workflow later, from MySQL.
 * claimed: the caller starts it at once, as by a claim that runs out should the caller die.
 */
export type WorkflowPresence = 'started' | 'due' | 'claimed';

const stateRow = z.object({
  order_no: z.string(),
  batch_id: z.string(),
  ...stateColumns,
});

/**
 * Stores orders, `STORE_BATCH_MAX` to a transaction. An order that cannot be stored does not keep back the
 * others.
 * @returns an outcome for every order, by orderNo
 * @throws when the store as a whole is unavailable: to be repeated later, in a batch of any composition
 */
export async function storeOrders(
  pool: Pool,
  orders: readonly Order[],
  presence: WorkflowPresence,
): Promise<Map<string, StoreOutcome>> {
  const unique = new Map(orders.map((order) => [order.orderNo, order]));
  // Every process sorts the same way, so that rivals wait for each other instead of deadlocking.
  const sorted = [...unique.values()].toSorted((a, b) => (a.orderNo < b.orderNo ? -1 : 1));
  const outcomes = new Map<string, StoreOutcome>();
  for (let from = 0; from < sorted.length; from += STORE_BATCH_MAX) {
    const batch = sorted.slice(from, from + STORE_BATCH_MAX);
    for (const [orderNo, outcome] of await storeBatch(pool, batch, presence)) outcomes.set(orderNo, outcome);
  }
  return outcomes;
}

/** Stores a batch, and halves it after a failure until an order that cannot be stored is alone. */
async function storeBatch(
  pool: Pool,
  batch: readonly Order[],
  presence: WorkflowPresence,
): Promise<Map<string, StoreOutcome>> {
  try {
    return await inTransaction(pool, (connection) => insertBatch(connection, batch, presence));
  } catch (error) {
    if (isUnavailable(error)) throw error;
    const [culprit] = batch;
    if (culprit !== undefined && batch.length === 1) {
      return new Map([[culprit.orderNo, { kind: 'refused', reason: toRefusal(error) }]]);
    }
    const middle = Math.ceil(batch.length / 2);
    const first = await storeBatch(pool, batch.slice(0, middle), presence);
    const second = await storeBatch(pool, batch.slice(middle), presence);
    return new Map([...first, ...second]);
  }
}

/** @throws the error itself when it does not concern the order */
function toRefusal(error: unknown): FailureReason {
  if (isCheckViolation(error)) return 'stock_exhausted';
  if (error instanceof UnknownSkuError) return 'unknown_sku';
  if (isInvalidValue(error)) return 'invalid_order';
  throw error;
}

async function insertBatch(
  connection: PoolConnection,
  batch: readonly Order[],
  presence: WorkflowPresence,
): Promise<Map<string, StoreOutcome>> {
  const sales = await shareLockSales(connection, batch);
  const current = batch.filter((order) => holdEpochOf(order) === sales.get(order.saleId)?.epoch);
  const batchId = ulid();
  const columns: SharedColumns = {
    batchId,
    stateOf: stateOnceStored,
    startedAt: presence === 'started' ? now : null,
    dueAt: dueAtOf(presence),
    triedAt: presence === 'claimed' ? now : null,
    noticeMsOf: (saleId) => sales.get(saleId)?.expiring_notice_ms,
  };
  const inserted = await insertOrderRows(connection, current, columns);

  // Where each row was inserted just now, the rows need not be read.
  const isAllFresh = inserted === batch.length;
  const found = isAllFresh ? undefined : await readStates(connection, batch);
  const left = found ? current.filter(({ orderNo }) => !found.has(orderNo)) : [];
  const isMore = await insertBesideHolders(connection, left, columns);
  const rows = isMore ? await readStates(connection, batch) : found;
  const fresh = rows ? current.filter((order) => rows.get(order.orderNo)?.batchId === batchId) : batch;
  await insertDetails(connection, fresh);
  const free = fresh.filter((order) => stateOnceStored(order).status === 'paid');
  await payFree(connection, free);
  const locked = fresh.map((order) => {
    return { order, state: stateOnceStored(order), mayRun: presence !== 'due', isEnding: false };
  });
  const closed = await closeStored(
    connection,
    locked.filter(({ order }) => sales.get(order.saleId)?.called_off),
  );
  const early = await applyEarly(
    connection,
    locked.map((one) => closed.get(one.order.orderNo) ?? one),
    presence === 'started',
  );
  if (presence === 'started' && !isAllFresh) await markStarted(connection, batch);
  if (presence === 'claimed' && !isAllFresh) await markTried(connection, batch);
  await bookMovements(connection, [
    ...fresh.map((order) => ({ movement: 'hold' as const, ...order })),
    ...free.map((order) => ({ movement: 'sell' as const, ...order })),
    ...early.bookings,
  ]);
  const states = new Map(early.outcomes.map(({ order, state }) => [order.orderNo, state]));

  return new Map(
    batch.map((order) => {
      const known = rows ? rows.get(order.orderNo)?.state : stateOnceStored(order);
      const state = states.get(order.orderNo) ?? closed.get(order.orderNo)?.state ?? known;
      const epoch = sales.get(order.saleId)?.epoch;
      return [order.orderNo, state ? toOutcome(state) : explainRefusal(order, epoch)];
    }),
  );
}

/**
 * Applies payments that came before these orders were stored, and unparks them: they were unmatched.
 * @returns what became of the orders that have any
 */
async function applyEarly<T extends LockedOrder>(
  connection: PoolConnection,
  orders: readonly T[],
  byWorkflow: boolean,
): Promise<PageOutcome<T>> {
  const orderNos = orders.map(({ order }) => order.orderNo);
  const payments = orderNos.length === 0 ? [] : await lockReceived(connection, orderNos);
  if (payments.length === 0) return { outcomes: [], bookings: [] };
  await unparkAll(
    connection,
    'payment',
    payments.map(({ providerPaymentId }) => providerPaymentId),
  );
  const paid = new Set(payments.map(({ orderNo }) => orderNo));
  const wish = { kind: 'apply-payments', byWorkflow } as const;
  return changeLocked(
    connection,
    orders.filter(({ order }) => paid.has(order.orderNo)),
    wish,
  );
}

/**
 * Inserts those of the orders whose idempotency key another order has that is a day older or younger: Redis
 * had forgotten the key by then. The younger one has it from then on. Of others the second is a duplicate.
 * @param orders that were not inserted, in the order in which every process takes them
 * @returns whether any was inserted
 */
async function insertBesideHolders(
  connection: PoolConnection,
  orders: readonly Order[],
  columns: SharedColumns,
): Promise<boolean> {
  let inserted = 0;
  // One by one: of three orders with the same key the second has it when the third comes.
  for (const order of orders) {
    const [holder] = await selectRows(
      connection,
      holderRow,
      `SELECT order_no, reserved_at FROM orders WHERE sale_id = ? AND user_id = ? AND idempotency_key = ?
       FOR UPDATE`,
      [order.saleId, order.userId, order.idempotencyKey],
    );
    // By the clock of Redis, as the key's own life.
    const laterMs = holder ? order.reservedAtMs - holder.reserved_at.getTime() : 0;
    if (Math.abs(laterMs) < IDEMPOTENCY_TTL_MS) continue;
    if (holder && laterMs > 0)
      await modify(connection, 'UPDATE orders SET idempotency_key = NULL WHERE order_no = ?', [
        holder.order_no,
      ]);
    const idempotencyKey = laterMs > 0 ? order.idempotencyKey : null;
    inserted += await insertOrderRows(connection, [{ ...order, idempotencyKey }], columns);
  }
  return inserted > 0;
}

function dueAtOf(presence: WorkflowPresence): Moment | null {
  switch (presence) {
    case 'started':
      return null;
    case 'due':
      return now;
    case 'claimed':
      return fromNow(START_CLAIM_MS);
    default:
      return presence satisfies never;
  }
}

function toOutcome(state: OrderState): StoreOutcome {
  return { kind: state.status === 'failed' ? 'abandoned' : 'stored', state };
}

/**
 * Why an order was neither inserted nor there before: there is no such sale, the order is of another epoch,
 * or another order number has the same request within a day.
 */
function explainRefusal(order: Order, epoch: number | undefined): StoreOutcome {
  if (epoch === undefined) return { kind: 'refused', reason: 'invalid_order' };
  const isCurrent = holdEpochOf(order) === epoch;
  return { kind: 'refused', reason: isCurrent ? 'duplicate_request' : 'lost_hold' };
}

/**
 * The shared locks keep a rebuild from changing an epoch while orders of that epoch are being stored, and a
 * sale from being called off while its orders are stored as open.
 */
async function shareLockSales(connection: PoolConnection, batch: readonly Order[]) {
  const rows = await selectRows(
    connection,
    saleRow,
    `SELECT sale_id, epoch, called_off, expiring_notice_ms FROM sales WHERE sale_id IN (?) ORDER BY sale_id
     LOCK IN SHARE MODE`,
    [[...new Set(batch.map((order) => order.saleId))]],
  );
  return new Map(rows.map((row) => [row.sale_id, row]));
}

async function readStates(connection: PoolConnection, batch: readonly Order[]) {
  const rows = await selectRows(
    connection,
    stateRow,
    `SELECT order_no, batch_id, status, version, payment, closing_reason, refunded, extended_until FROM orders
     WHERE order_no IN (?)`,
    [batch.map((order) => order.orderNo)],
  );
  return new Map(rows.map((row) => [row.order_no, { batchId: row.batch_id, state: toState(row) }]));
}

async function insertDetails(connection: PoolConnection, orders: readonly Order[]): Promise<void> {
  if (orders.length === 0) return;
  await modify(
    connection,
    'INSERT INTO order_items (order_no, position, sku, quantity, unit_price) VALUES ?',
    [
      orders.flatMap(({ orderNo, items }) =>
        items.map((item, position) => [orderNo, position, item.sku, item.quantity, item.unitPrice]),
      ),
    ],
  );
  await recordEvents(
    connection,
    orders.flatMap((order) => {
      const states = [storedStateOf(order), stateOnceStored(order)];
      return [...new Map(states.map((state) => [state.version, { orderNo: order.orderNo, state }])).values()];
    }),
  );
}

/** Marks open orders that were stored ahead: the calling workflow runs, so the relay need not start it. */
async function markStarted(connection: PoolConnection, batch: readonly Order[]): Promise<void> {
  await modify(
    connection,
    `UPDATE orders SET workflow_started_at = NOW(3), engine_due_at = NULL, ${ANEW}
     WHERE order_no IN (?) AND workflow_started_at IS NULL AND status = 'awaiting_payment'`,
    [batch.map((order) => order.orderNo)],
  );
}

/** Marks open orders that were stored before: the caller is about to start their workflows. */
async function markTried(connection: PoolConnection, batch: readonly Order[]): Promise<void> {
  await modify(
    connection,
    `UPDATE orders SET start_tried_at = NOW(3)
     WHERE order_no IN (?) AND workflow_started_at IS NULL AND status = 'awaiting_payment'`,
    [batch.map((order) => order.orderNo)],
  );
}

/**
 * An order as it is to be inserted. Without an idempotency key the row does not take part in its unique key.
 */
type NewOrder = Omit<Order, 'idempotencyKey' | 'items'> & { idempotencyKey: string | null };

/** The columns that are the same for all rows of one insert. */
export interface SharedColumns {
  /** Identifies the rows that this very insert wrote. */
  batchId: string;
  stateOf: (order: StateSource) => OrderState;
  /** What is kept of what an order carries; absent: all. */
  carriedOf?: (order: Carried) => Partial<Carried>;
  /** When the orders' workflows started; null: not yet. */
  startedAt: Moment | null;
  /** When the relay is to start the orders' workflows; null: never. One that is final by now needs none. */
  dueAt: Moment | null;
  /** When the caller is about to start them; null: it is not. */
  triedAt: Moment | null;
  /** How long before its deadline the shop is told of an order; absent or null: it is not. */
  noticeMsOf?: (saleId: string) => number | null | undefined;
}

/**
 * Inserts the orders. A row that exists under the same number or the same request stays as it is.
 * @returns the number of inserted rows
 */
async function insertOrderRows(
  connection: PoolConnection,
  orders: readonly NewOrder[],
  { batchId, stateOf, carriedOf = (order) => order, startedAt, dueAt, triedAt, noticeMsOf }: SharedColumns,
): Promise<number> {
  if (orders.length === 0) return 0;
  // Not INSERT IGNORE, which would also swallow truncations and out-of-range values.
  return modify(
    connection,
    `INSERT INTO orders (order_no, sale_id, user_id, idempotency_key, status, payment, version, closing_reason,
       epoch, batch_id, total, currency, reserved_at, payment_window_ms, deadline, workflow_started_at,
       engine_due_at, engine_since, start_tried_at, end_due_at, extended_until, expiring_due_at, reference, charges,
       carried)
     VALUES ? ON DUPLICATE KEY UPDATE order_no = order_no`,
    [
      orders.map((order) => {
        const state = stateOf(order);
        const kept = carriedOf(order);
        const needsWorkflow = !isFinal(state.status);
        const tried = needsWorkflow ? triedAt : null;
        return [
          order.orderNo,
          order.saleId,
          order.userId,
          order.idempotencyKey,
          state.status,
          state.payment,
          state.version,
          state.reason,
          holdEpochOf(order),
          batchId,
          order.total,
          order.currency,
          new Date(order.reservedAtMs),
          order.paymentWindowMs,
          new Date(orderDeadlineMs(order, state)),
          startedAt,
          needsWorkflow ? dueAt : null,
          // Since when the caller's own are due, whose time is that of the claim.
          tried,
          tried,
          needsWorkflow ? null : fromNow(FOLLOW_CLAIM_MS),
          extendedUntilOf(state),
          needsWorkflow ? expiringDueAt(orderDeadlineMs(order, state), noticeMsOf?.(order.saleId)) : null,
          kept.reference || null,
          kept.charges?.length ? JSON.stringify(kept.charges) : null,
          carriedText.inMysql.write(kept),
        ];
      }),
    ],
  );
}

/**
 * Abandons an order that could not be stored: a tombstone in its place keeps any slow write from storing
 * it later. The tombstone leaves the idempotency key out, because another order may have it.
 */
export function abandon(pool: Pool, order: Order, reason: FailureReason): Promise<AbandonOutcome> {
  return inTransaction(pool, async (connection): Promise<AbandonOutcome> => {
    const { orderNo } = order;
    // What was shown of it is lost in MySQL, and must not be taken for newer.
    const version = (order.shown?.version ?? 0) + 1;
    const state: OrderState = { status: 'failed', version, payment: 'none', reason };
    // A tombstone must fit where the order did not, so the columns that are only recorded are left out.
    // The ticket stays spent.
    const tombstone = { ...order, idempotencyKey: null };
    const inserted = await insertOrderRows(connection, [tombstone], {
      batchId: ulid(),
      stateOf: () => state,
      carriedOf: ({ ticket }) => (ticket ? { ticket } : {}),
      startedAt: now,
      dueAt: null,
      triedAt: null,
    });
    if (inserted === 1) await recordEvents(connection, [{ orderNo, state }]);
    // A payment that came for the order must be refunded.
    const stored = await lockOrder(connection, orderNo);
    assert(stored, `order ${orderNo} has its tombstone, or is stored`);
    const { outcomes, bookings } = await applyEarly(connection, [stored], true);
    await bookMovements(connection, bookings);
    const { state: after } = outcomes[0] ?? stored;
    return { kind: after.status === 'failed' ? 'abandoned' : 'stored', state: after };
  });
}
