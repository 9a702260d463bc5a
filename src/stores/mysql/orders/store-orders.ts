/**
 * Stores orders in MySQL: for the workflow's persistOrder, for the relay's overflow, and for the API.
 *
 * Each of them may come twice, at the same time as another, or after the order was abandoned. The rows that
 * are new in a transaction have the batch id of this very attempt, and items, events, ledger and counters
 * derive from them alone.
 */

import { ulid } from 'ulidx';
import { z } from 'zod';
import { IDEMPOTENCY_TTL_MS, STORE_BATCH_MAX } from '../../../domain/limits.ts';
import {
  holdEpochOf,
  isFinal,
  type FailureReason,
  type Order,
  type OrderState,
} from '../../../domain/order.ts';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../connection.ts';
import { isCheckViolation, isInvalidValue, isUnavailable } from '../errors.ts';
import { fromNow, now, type Moment } from '../leases.ts';
import { settleBatchEarlyPayments } from '../money/inbox.ts';
import { recordEvents, stateColumns, toState } from '../rows/order-rows.ts';
import { bookMovement, UnknownSkuError } from '../rows/stock-ledger.ts';
import { insertOrderRows, type SharedColumns } from './insert-order-rows.ts';
import { CLAIM_MS } from './order-claims.ts';

const epochRow = z.object({ sale_id: z.string(), epoch: z.int() });
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

const STORED: OrderState = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };

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
  const epochs = await shareLockEpochs(connection, batch);
  const current = batch.filter((order) => holdEpochOf(order) === epochs.get(order.saleId));
  const batchId = ulid();
  const columns: SharedColumns = {
    batchId,
    stateOf: storedStateOf,
    startedAt: presence === 'started' ? now : null,
    dueAt: dueAtOf(presence),
    triedAt: presence === 'claimed' ? now : null,
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
  const early = await settleBatchEarlyPayments(connection, fresh);
  if (presence === 'started' && !isAllFresh) await markStarted(connection, batch);
  if (presence === 'claimed' && !isAllFresh) await markTried(connection, batch);
  await bookMovement(connection, 'hold', fresh);

  return new Map(
    batch.map((order) => {
      const known = rows ? rows.get(order.orderNo)?.state : storedStateOf(order);
      const state = early.get(order.orderNo) ?? known;
      return [order.orderNo, state ? toOutcome(state) : explainRefusal(order, epochs.get(order.saleId))];
    }),
  );
}

/**
 * An order that MySQL has lost is stored so that its next states come to the versions that they had, or above
 * what is shown. One that was shown as ended and ends otherwise now may stay hidden behind that.
 */
function storedStateOf({ shown }: Pick<Order, 'shown'>): OrderState {
  return shown ? { ...STORED, version: Math.max(1, shown.version - stepsTo(shown)) } : STORED;
}

/** The changes from a stored order to this state. One whose wish to cancel is lost is open once more. */
function stepsTo({ status, payment, reason }: OrderState): number {
  if (isFinal(status)) return 2;
  if (payment !== 'none') return 1;
  return reason === null ? 0 : -1;
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
      return fromNow(CLAIM_MS);
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

/** The shared locks keep a rebuild from changing an epoch while orders of that epoch are being stored. */
async function shareLockEpochs(
  connection: PoolConnection,
  batch: readonly Order[],
): Promise<Map<string, number>> {
  const rows = await selectRows(
    connection,
    epochRow,
    'SELECT sale_id, epoch FROM sales WHERE sale_id IN (?) ORDER BY sale_id LOCK IN SHARE MODE',
    [[...new Set(batch.map((order) => order.saleId))]],
  );
  return new Map(rows.map((row) => [row.sale_id, row.epoch]));
}

async function readStates(connection: PoolConnection, batch: readonly Order[]) {
  const rows = await selectRows(
    connection,
    stateRow,
    'SELECT order_no, batch_id, status, version, payment, closing_reason, refunded FROM orders WHERE order_no IN (?)',
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
    orders.map((order) => ({ orderNo: order.orderNo, state: storedStateOf(order) })),
  );
}

/** Marks open orders that were stored ahead: the calling workflow runs, so the relay need not start it. */
async function markStarted(connection: PoolConnection, batch: readonly Order[]): Promise<void> {
  await modify(
    connection,
    `UPDATE orders SET workflow_started_at = NOW(3), engine_due_at = NULL
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
