/**
 * Storing orders in MySQL: the one function behind the workflow's persistOrder, the relay's overflow and the API.
 *
 * Any of them may come twice, at once, or after the order was given up. What is new in a transaction is told by the batch
 * id that this very attempt wrote; items, events, ledger and counters derive from those rows alone.
 */

import { ulid } from 'ulidx';
import { z } from 'zod';
import { STORE_BATCH_MAX } from '../../../domain/limits.ts';
import {
  orderDeadlineMs,
  parseOrderNo,
  type FailureReason,
  type Order,
  type OrderState,
} from '../../../domain/order.ts';
import {
  inTransaction,
  isCheckViolation,
  isInvalidValue,
  isUnavailable,
  modify,
  selectRows,
  type Pool,
  type PoolConnection,
} from '../connection.ts';
import { settleEarlyPaymentsOfBatch } from '../money/settle-payments.ts';
import { recordEvents, stateColumns, toState } from '../rows/order-rows.ts';
import { bookMovement, UnknownSkuError } from '../rows/stock-ledger.ts';

/** stored: durable, in whatever state it is by now. abandoned: given up earlier. refused: can never be stored. */
export type StoreOutcome =
  | { kind: 'stored'; state: OrderState }
  | { kind: 'abandoned'; state: OrderState }
  | { kind: 'refused'; reason: FailureReason };

/** started: its workflow runs and calls this. due: the relay starts the workflow later, from MySQL. */
export type WorkflowPresence = 'started' | 'due';

const STORED: OrderState = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };

const stateRow = z.object({
  order_no: z.string(),
  batch_id: z.string(),
  ...stateColumns,
});

/**
 * Stores orders, `STORE_BATCH_MAX` to a transaction. One that cannot be stored does not hold up the others.
 * @returns an outcome for every order, by orderNo
 * @throws when the store as a whole is unavailable: repeat later, with any other composition of the batch
 */
export async function storeOrders(
  pool: Pool,
  orders: readonly Order[],
  presence: WorkflowPresence,
): Promise<Map<string, StoreOutcome>> {
  const unique = new Map(orders.map((order) => [order.orderNo, order]));
  // In the same order everywhere, so that rivals wait for each other instead of deadlocking.
  const sorted = [...unique.values()].toSorted((a, b) => (a.orderNo < b.orderNo ? -1 : 1));
  const outcomes = new Map<string, StoreOutcome>();
  for (let from = 0; from < sorted.length; from += STORE_BATCH_MAX) {
    const batch = sorted.slice(from, from + STORE_BATCH_MAX);
    for (const [orderNo, outcome] of await storeBatch(pool, batch, presence)) outcomes.set(orderNo, outcome);
  }
  return outcomes;
}

/** Halves the batch until a culprit is alone. */
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

/** @throws the error itself where it says nothing about the order */
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
  const current = batch.filter((order) => parseOrderNo(order.orderNo)?.epoch === epochs.get(order.saleId));
  const batchId = ulid();
  await insertRows(connection, current, batchId, presence);

  const rows = await readStates(connection, batch);
  const fresh = current.filter((order) => rows.get(order.orderNo)?.batch_id === batchId);
  await insertDetails(connection, fresh);
  const early = await settleEarlyPaymentsOfBatch(connection, fresh);
  if (presence === 'started') await markStarted(connection, batch);
  await bookMovement(connection, 'hold', fresh);

  return new Map(
    batch.map((order) => {
      const row = rows.get(order.orderNo);
      const state = early.get(order.orderNo) ?? (row && toState(row));
      return [order.orderNo, state ? toOutcome(state) : explainRefusal(order, epochs.get(order.saleId))];
    }),
  );
}

function toOutcome(state: OrderState): StoreOutcome {
  return { kind: state.status === 'failed' ? 'abandoned' : 'stored', state };
}

/** Neither inserted nor there before: no such sale, another life of it, or the same request under another number. */
function explainRefusal(order: Order, epoch: number | undefined): StoreOutcome {
  if (epoch === undefined) return { kind: 'refused', reason: 'invalid_order' };
  const isCurrent = parseOrderNo(order.orderNo)?.epoch === epoch;
  return { kind: 'refused', reason: isCurrent ? 'duplicate_request' : 'lost_hold' };
}

/** Shared locks keep a rebuild from changing the epoch while orders of it are being stored. */
async function shareLockEpochs(
  connection: PoolConnection,
  batch: readonly Order[],
): Promise<Map<string, number>> {
  const rows = await selectRows(
    connection,
    z.object({ sale_id: z.string(), epoch: z.int() }),
    'SELECT sale_id, epoch FROM sales WHERE sale_id IN (?) ORDER BY sale_id LOCK IN SHARE MODE',
    [[...new Set(batch.map((order) => order.saleId))]],
  );
  return new Map(rows.map((row) => [row.sale_id, row.epoch]));
}

async function insertRows(
  connection: PoolConnection,
  orders: readonly Order[],
  batchId: string,
  presence: WorkflowPresence,
): Promise<void> {
  if (orders.length === 0) return;
  const now = new Date();
  // A duplicate leaves the row as it is; IGNORE would also swallow truncations and out-of-range values.
  await modify(
    connection,
    `INSERT INTO orders (order_no, sale_id, user_id, idempotency_key, status, payment, version, epoch, batch_id, total,
       currency, ip, user_agent, reserved_at, payment_window_ms, deadline, workflow_started_at, engine_due_at)
     VALUES ? ON DUPLICATE KEY UPDATE order_no = order_no`,
    [
      orders.map((order) => [
        order.orderNo,
        order.saleId,
        order.userId,
        order.idempotencyKey,
        STORED.status,
        STORED.payment,
        STORED.version,
        parseOrderNo(order.orderNo)?.epoch,
        batchId,
        order.total,
        order.currency,
        order.ip,
        order.userAgent,
        new Date(order.reservedAtMs),
        order.paymentWindowMs,
        new Date(orderDeadlineMs(order)),
        presence === 'started' ? now : null,
        presence === 'due' ? now : null,
      ]),
    ],
  );
}

async function readStates(connection: PoolConnection, batch: readonly Order[]) {
  const rows = await selectRows(
    connection,
    stateRow,
    'SELECT order_no, batch_id, status, version, payment, closing_reason FROM orders WHERE order_no IN (?)',
    [batch.map((order) => order.orderNo)],
  );
  return new Map(rows.map((row) => [row.order_no, row]));
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
    orders.map(({ orderNo }) => ({ orderNo, state: STORED })),
  );
}

/** For orders that were stored ahead: the workflow that calls has come, nobody needs to start it any more. */
async function markStarted(connection: PoolConnection, batch: readonly Order[]): Promise<void> {
  await modify(
    connection,
    `UPDATE orders SET workflow_started_at = NOW(3), engine_due_at = NULL
     WHERE order_no IN (?) AND workflow_started_at IS NULL`,
    [batch.map((order) => order.orderNo)],
  );
}
