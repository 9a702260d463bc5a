/** Claims of orders whose workflow is due to be started or signalled: taken, completed or released. */

import { z } from 'zod';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../mysql/connection.ts';
import { ANEW, COUNT_FAILURE, FAILED_SELDOM, KEEP_PLACE, takeLease } from '../mysql/leases.ts';
import { park } from '../parked/parked.sql.ts';
import { START_CLAIM_MS } from './change.sql.ts';
import type { Order } from './content.ts';
import { CLOSING_REASONS, FINAL_STATUSES, isTooLateToBegin, type OrderState } from './order.ts';
import { selectOrders, type StoredOrder } from './rows.sql.ts';
import { listUnbegunSales, UNBEGUN } from './turns.sql.ts';

const orderNoRow = z.object({ order_no: z.string() });
const parkedRow = z.object({ parked_id: z.int() });
const openRow = z.object({
  order_no: z.string(),
  deadline: z.date(),
  waiting: z.coerce.boolean(),
  overdue: z.coerce.boolean(),
});

/** Where a walk over the open orders stands. */
export interface OrderCursor {
  orderNo: string;
  /** Unix time in ms. */
  deadlineMs: number;
}

/** An open order, as a walk over them sees it. */
export interface OpenOrder extends OrderCursor {
  /** Its workflow has begun, and nothing is due or claimed: the workflow alone will go on. */
  isWaiting: boolean;
  /** Its workflow should have ended it long ago. */
  isOverdue: boolean;
}

/** An order as its claim saw it. */
type Claimed = { order: Pick<Order, 'orderNo'>; state: OrderState };

/** The time that a workflow's slow steps may take. */
const OVERDUE_GRACE_MS = 5 * 60_000;
/**
 * Half a payment window and the grace after its deadline, the workflow of an order should have ended it. The
 * window runs from the workflow's start, which may be a third of a window later than the reservation.
 */
export const IS_OVERDUE = `deadline < NOW(3)
  - INTERVAL (payment_window_ms DIV 2 + ${OVERDUE_GRACE_MS}) * 1000 MICROSECOND`;
/** Its workflow has begun, and nothing of it is due or claimed. */
const IS_WAITING = 'engine_due_at IS NULL AND workflow_started_at IS NOT NULL';

/**
 * Claims up to `limit` orders: those that have ended and whose workflow may run, then those that a person
 * wants cancelled, then those that are called off beside the longest due. Each is the caller's until
 * `complete` or `release`, or until the claim runs out. Orders that are too old to start are taken off the
 * queue; the ender ends them.
 * @param startsMax how many of the last, in turns by sale
 * @param nowMs by Redis' clock (Unix ms), which made their deadlines
 * @param isProbe after a failure one order is tried. Orders that failed three times in a row are tried last,
 *   or they would block the rest of their rank
 */
export function take(
  pool: Pool,
  limit: number,
  startsMax = limit,
  nowMs = Date.now(),
  isProbe = false,
  turns: Turns = ONE_TURN,
): Promise<StoredOrder[]> {
  return inTransaction(pool, async (connection) => {
    const room = { limit, startsMax, nowMs, turns };
    const probes = isProbe ? await selectRanks(connection, room, `${FAILED_SELDOM} AND `) : NONE;
    const { urgent, starts } =
      probes.urgent.length + probes.starts.length > 0 ? probes : await selectRanks(connection, room, '');
    const claimed = [...urgent, ...starts];
    if (claimed.length > 0) await takeLease(connection, LEASED, claimed.map(orderNoOf), START_CLAIM_MS);
    if (starts.length > 0)
      await modify(connection, 'UPDATE orders SET start_tried_at = NOW(3) WHERE order_no IN (?)', [
        starts.map(orderNoOf),
      ]);
    return claimed;
  });
}

/**
 * Ends the claims of orders whose workflow was started or signalled. An order that ended since it was
 * claimed, before MySQL knew that its workflow runs, is due once more: its workflow is to be signalled.
 */
export async function complete(pool: Pool, orders: readonly Claimed[]): Promise<void> {
  if (orders.length === 0) return;
  // A change since then has another version, and may have made the order due again. The numbers stand alone
  // as well, because MariaDB finds no index for pairs and would lock every order there ever was.
  const orderNos = orders.map(({ order }) => order.orderNo);
  const unchanged = orders.map(({ order, state }) => [order.orderNo, state.version]);
  await inTransaction(pool, async (connection) => {
    await modify(
      connection,
      `UPDATE orders SET engine_due_at = NULL, workflow_started_at =
           IF(status = 'awaiting_payment', COALESCE(workflow_started_at, NOW(3)), workflow_started_at), ${ANEW}
         WHERE order_no IN (?) AND (order_no, version) IN (?)`,
      [orderNos, unchanged],
    );
    await modify(
      connection,
      `UPDATE orders SET engine_due_at = NOW(3), ${ANEW}
         WHERE order_no IN (?) AND (order_no, version) NOT IN (?) AND workflow_started_at IS NULL
           AND status <> 'awaiting_payment'`,
      [orderNos, unchanged],
    );
  });
}

/**
 * Ends the claims of orders whose workflow was not started or signalled. They are due again at once, each at
 * its place among those of its rank; from its third failure in a row on an order goes behind them.
 * @param failed those of them whose start or signal failed; the others were not tried
 */
export async function release(
  pool: Pool,
  orders: readonly Claimed[],
  failed: readonly Claimed[] = [],
): Promise<void> {
  const untried = orders.filter((stored) => !failed.includes(stored));
  const ends = [
    [untried, KEEP_PLACE],
    [failed, COUNT_FAILURE],
  ] as const;
  for (const [claimed, end] of ends)
    if (claimed.length > 0)
      await inTransaction(pool, (connection) =>
        modify(
          connection,
          // A change since the claim has another version, and decided itself when the order is due.
          `UPDATE orders SET ${end} WHERE order_no IN (?) AND (order_no, version) IN (?)
             AND engine_due_at IS NOT NULL`,
          [claimed.map(orderNoOf), claimed.map(({ order, state }) => [order.orderNo, state.version])],
        ),
      );
}

/** Up to `limit` open orders after this one, by their deadlines. */
export async function listOpen(
  pool: Pool,
  after: OrderCursor | undefined,
  limit: number,
): Promise<OpenOrder[]> {
  const deadline = new Date(after?.deadlineMs ?? 0);
  // What an order waits for is read and not searched by, so that a backlog is walked in pages too. The
  // first condition on the deadline is the range of the index.
  const rows = await selectRows(
    pool,
    openRow,
    `SELECT order_no, deadline, ${IS_WAITING} AS waiting, ${IS_OVERDUE} AS overdue
         FROM orders WHERE status = 'awaiting_payment' AND deadline >= ? AND (deadline > ? OR order_no > ?)
         ORDER BY deadline, order_no LIMIT ?`,
    [deadline, deadline, after?.orderNo ?? '', limit],
  );
  return rows.map((row) => ({
    orderNo: row.order_no,
    deadlineMs: row.deadline.getTime(),
    isWaiting: row.waiting,
    isOverdue: row.overdue,
  }));
}

/**
 * Makes open orders due whose workflow has been lost, unless they are due or claimed by now.
 * @returns those that are due by this call
 */
export function requeue(pool: Pool, orderNos: readonly string[]): Promise<string[]> {
  return orderNos.length === 0
    ? Promise.resolve([])
    : inTransaction(pool, async (connection) => {
        const rows = await selectRows(
          connection,
          orderNoRow,
          `SELECT order_no FROM orders WHERE order_no IN (?) AND status = 'awaiting_payment'
                 AND ${IS_WAITING} FOR UPDATE`,
          [orderNos],
        );
        const lost = rows.map((row) => row.order_no);
        if (lost.length > 0)
          await modify(
            connection,
            `UPDATE orders SET engine_due_at = NOW(3), ${ANEW} WHERE order_no IN (?)`,
            [lost],
          );
        return lost;
      });
}

/**
 * Parks an order whose workflow should have ended it long ago. Under the lock of its row, which its end
 * takes too and then unparks it; one that has ended, is due or claimed by now is left alone.
 * @returns whether it is parked
 */
export function parkStuck(pool: Pool, orderNo: string): Promise<boolean> {
  return inTransaction(pool, async (connection) => {
    const stuck = await selectRows(
      connection,
      orderNoRow,
      `SELECT order_no FROM orders WHERE order_no = ? AND status = 'awaiting_payment' AND ${IS_WAITING}
             AND ${IS_OVERDUE} FOR UPDATE`,
      [orderNo],
    );
    if (stuck.length === 0) return false;
    const reason = 'its workflow runs, long past its deadline';
    await park(connection, 'order', orderNo, reason, { cause: 'workflow_stuck', inputs: { orderNo } });
    return true;
  });
}

/**
 * Ends the parking of orders that were parked as stuck though they had ended. An end is final, so nothing
 * is locked.
 * @param limit of those that are looked after by one call
 */
export async function unparkEnded(pool: Pool, limit: number): Promise<void> {
  const ended = await selectRows(
    pool,
    parkedRow,
    // In this order, as few are parked.
    `SELECT STRAIGHT_JOIN p.parked_id FROM parked p JOIN orders o ON o.order_no = p.reference
         WHERE p.resolved_at IS NULL AND p.kind = 'order' AND p.cause = 'workflow_stuck' AND o.status IN (?)
         ORDER BY p.parked_id LIMIT ?`,
    [FINAL_STATUSES, limit],
  );
  if (ended.length === 0) return;
  await modify(
    pool,
    `UPDATE parked SET resolved_at = NOW(3), settled_by = 'rules'
         WHERE parked_id IN (?) AND resolved_at IS NULL AND cause = 'workflow_stuck'`,
    [ended.map((row) => row.parked_id)],
  );
}

/** The turns of the sales whose orders wait for a start. */
interface Turns {
  /** The sale that had the last turn; empty: none. */
  after: string;
  /** The sales that have no turn now. */
  without: ReadonlySet<string>;
}

const ONE_TURN: Turns = { after: '', without: new Set() };
const NONE: { urgent: StoredOrder[]; starts: StoredOrder[] } = { urgent: [], starts: [] };

/** @param which more that a row must be, before `AND` */
async function selectRanks(
  connection: PoolConnection,
  room: { limit: number; startsMax: number; nowMs: number; turns: Turns },
  which: string,
): Promise<typeof NONE> {
  const { limit, startsMax } = room;
  const urgent: StoredOrder[] = [];
  for (const rank of URGENT) {
    const left = limit - urgent.length;
    if (left > 0) urgent.push(...(await selectDue(connection, which + rank, left)));
  }
  const left = Math.min(limit - urgent.length, startsMax);
  const calledOff = left > 0 ? await selectDue(connection, which + CALLED_OFF, left) : [];
  // Of an odd number either half has the more by chance: of one, each in its turn.
  const half = Math.floor(left / 2 + Math.random());
  const startsLeft = Math.max(left - calledOff.length, half);
  const starts = await selectStartsInTurns(connection, which, startsLeft, room);
  // What is too much is only read: the next claim has it.
  return { urgent: [...urgent, ...calledOff.slice(0, left - starts.length)], starts };
}

const LEASED = { table: 'orders', key: 'order_no', until: 'engine_due_at', since: 'engine_since' };
const orderNoOf = ({ order }: Claimed): string => order.orderNo;

const DUE = 'engine_due_at <= NOW(3)';
/** Not `IS NOT NULL`, by which the index would read all that were ever cancelled. */
const closingFor = (reasons: readonly string[]): string =>
  `closing_reason IN (${reasons.map((reason) => `'${reason}'`).join(', ')})`;
/** Somebody waits for it. */
const CLOSING_ALONE = closingFor(CLOSING_REASONS.filter((reason) => reason !== 'called_off'));
const IS_OPEN = `status = 'awaiting_payment'`;
/**
 * Which orders Temporal is to learn of first. Each is a range of the index `orders_due` in its own order, so
 * that only as many rows are read and locked as are claimed.
 */
const URGENT = [
  `status = 'paid' AND closing_reason IS NULL AND ${DUE} ORDER BY engine_due_at`,
  `status = 'cancelled' AND ${closingFor(CLOSING_REASONS)} AND ${DUE} ORDER BY closing_reason, engine_due_at`,
  `${IS_OPEN} AND ${CLOSING_ALONE} AND ${DUE} ORDER BY closing_reason, engine_due_at`,
];
/** A sale that is called off has tens of thousands at once, and nobody waits: they share with starts. */
const CALLED_OFF = `${IS_OPEN} AND closing_reason = 'called_off' AND ${DUE} ORDER BY engine_due_at`;
const START = `${IS_OPEN} AND closing_reason IS NULL AND ${DUE} ORDER BY engine_due_at`;

/** What is left to the end without a workflow by one call. After a peak some hundred thousand orders are. */
const LEFT_MAX = 2_000;

const startRow = z
  .object({
    order_no: z.string(),
    reserved_at: z.date(),
    payment_window_ms: z.int(),
    workflow_started_at: z.date().nullable(),
  })
  .transform((row) => ({
    orderNo: row.order_no,
    reservedAtMs: row.reserved_at.getTime(),
    paymentWindowMs: row.payment_window_ms,
    hasBegun: row.workflow_started_at !== null,
  }));

const windowRow = z.object({ sale_id: z.string(), payment_window_ms: z.int() });

/**
 * A sale alone has its orders that are due longest. Several have a share each, and take what others leave.
 */
async function selectStartsInTurns(
  connection: PoolConnection,
  which: string,
  limit: number,
  { nowMs, turns: { after, without } }: { nowMs: number; turns: Turns },
): Promise<StoredOrder[]> {
  if (limit <= 0) return [];
  const waiting = await listUnbegunSales(connection, after);
  const sales = waiting.filter((saleId) => !without.has(saleId));
  const starts: StoredOrder[] = [];
  if (waiting.length > 1 && sales.length > 0) {
    const windows = await selectRows(
      connection,
      windowRow,
      'SELECT sale_id, payment_window_ms FROM sales WHERE sale_id IN (?)',
      [sales],
    );
    const windowOf = new Map(windows.map((row) => [row.sale_id, row.payment_window_ms]));
    for (const [i, saleId] of sales.entries()) {
      const share = Math.ceil((limit - starts.length) / (sales.length - i));
      // Orders that are too old to start come first by their deadlines, and are tens of thousands after a
      // peak.
      const earliest = new Date(nowMs + ((windowOf.get(saleId) ?? 0) * 2) / 3);
      const condition = `${which}${UNBEGUN.where} AND sale_id = ? AND deadline > ? AND closing_reason IS NULL AND ${DUE}
        ORDER BY deadline LIMIT ? FOR UPDATE SKIP LOCKED`;
      const values = [saleId, earliest, share];
      starts.push(...(await selectOrders(connection, condition, values, UNBEGUN.hint)));
    }
  }
  const left = limit - starts.length;
  const known = new Set(starts.map(orderNoOf));
  // Those that the shares leave: of a sale alone, with another window, or whose workflow is to begin again.
  const others = left > 0 ? await selectStarts(connection, which + START, limit, nowMs) : [];
  return [
    ...starts.filter((stored) => !isLate(stored, nowMs)),
    ...others
      .filter((stored) => !known.has(orderNoOf(stored)) && !without.has(stored.order.saleId))
      .slice(0, left),
  ];
}

function isLate({ order, windowEndsAtMs }: StoredOrder, nowMs: number): boolean {
  return windowEndsAtMs === undefined && isTooLateToBegin(order, nowMs);
}

/** Those that are due longest come first, and so those that it is too late to begin. */
async function selectStarts(
  connection: PoolConnection,
  rank: string,
  limit: number,
  nowMs: number,
): Promise<StoredOrder[]> {
  const due = await selectDue(connection, rank, limit);
  if (!due.some((stored) => isLate(stored, nowMs))) return due;
  const first = await selectRows(
    connection,
    startRow,
    `SELECT order_no, reserved_at, payment_window_ms, workflow_started_at FROM orders
     WHERE ${rank} LIMIT ? FOR UPDATE SKIP LOCKED`,
    [LEFT_MAX],
  );
  const late = first.filter((order) => !order.hasBegun && isTooLateToBegin(order, nowMs));
  if (late.length > 0)
    await modify(connection, `UPDATE orders SET engine_due_at = NULL, ${ANEW} WHERE order_no IN (?)`, [
      late.map(({ orderNo }) => orderNo),
    ]);
  return (await selectDue(connection, rank, limit)).filter((stored) => !isLate(stored, nowMs));
}

/** Skips rows that other relays are claiming. */
function selectDue(connection: PoolConnection, rank: string, limit: number): Promise<StoredOrder[]> {
  return selectOrders(connection, `${rank} LIMIT ? FOR UPDATE SKIP LOCKED`, [limit]);
}
