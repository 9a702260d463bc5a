/** The books of single orders: whether an order's row is what its events and its stock bookings say. */

import { z } from 'zod';
import { inSnapshot, modify, selectRows, type Executor, type Pool } from '../mysql/connection.ts';
import { stateColumns } from '../orders/rows.sql.ts';
import { park as parkWork } from '../parked/parked.sql.ts';

const orderRow = z.object({ order_no: z.string(), ...stateColumns });
const eventRow = z.object({
  order_no: z.string(),
  ...stateColumns,
  events: z.int(),
  first_version: z.int(),
  valid_start: z.coerce.boolean(),
});
const itemRow = z.object({
  order_no: z.string(),
  sku: z.string(),
  quantity: z.int(),
  stock_returned: z.int(),
});
const bookedRow = z.object({
  order_no: z.string(),
  sku: z.string(),
  movement: z.string(),
  quantity: z.coerce.number(),
});
const referenceRow = z.object({ reference: z.string() });

/** What is wrong with an order. */
export interface BrokenOrder {
  orderNo: string;
  detail: string;
}

/**
 * Checks some orders of all sales, in the order of their numbers.
 * @param after an orderNo; empty: from the first on
 * @returns last: the last one that was checked; undefined: there are no more
 */
export function checkAfter(
  pool: Pool,
  after: string,
  limit: number,
): Promise<{ checked: number; last: string | undefined; broken: BrokenOrder[] }> {
  return inSnapshot(pool, async (reader) => {
    const rows = await selectOrders(reader, 'order_no > ? ORDER BY order_no LIMIT ?', [after, limit]);
    const last = rows.length === limit ? rows.at(-1)?.order_no : undefined;
    return { checked: rows.length, last, broken: await findBroken(reader, rows) };
  });
}

/** Parks orders that contradict themselves. */
export async function park(pool: Pool, broken: readonly BrokenOrder[]): Promise<void> {
  for (const { orderNo, detail } of broken) {
    await parkWork(pool, 'order', orderNo, detail, {
      cause: 'order_inconsistent',
      inputs: { orderNo, detail },
    });
  }
}

/** Ends the parking of those that do not contradict themselves any more. */
export async function unparkWhole(pool: Pool, limit: number): Promise<void> {
  const parked = await selectRows(
    pool,
    referenceRow,
    `SELECT reference FROM parked WHERE kind = 'order' AND cause = 'order_inconsistent' AND resolved_at IS NULL
         ORDER BY parked_id LIMIT ?`,
    [limit],
  );
  if (parked.length === 0) return;
  const orderNos = parked.map(({ reference }) => reference);
  const broken = await inSnapshot(pool, async (reader) =>
    findBroken(reader, await selectOrders(reader, 'order_no IN (?)', [orderNos])),
  );
  const left = new Set(broken.map(({ orderNo }) => orderNo));
  const whole = orderNos.filter((orderNo) => !left.has(orderNo));
  if (whole.length === 0) return;
  await modify(
    pool,
    `UPDATE parked SET resolved_at = NOW(3), settled_by = 'rules'
         WHERE kind = 'order' AND reference IN (?) AND cause = 'order_inconsistent' AND resolved_at IS NULL`,
    [whole],
  );
}

type OrderRow = z.infer<typeof orderRow>;

function selectOrders(reader: Executor, condition: string, values: unknown[]): Promise<OrderRow[]> {
  return selectRows(
    reader,
    orderRow,
    `SELECT order_no, status, version, payment, closing_reason, refunded, extended_until FROM orders
     WHERE ${condition}`,
    values,
  );
}

async function findBroken(reader: Executor, rows: readonly OrderRow[]): Promise<BrokenOrder[]> {
  if (rows.length === 0) return [];
  const orderNos = [rows.map((row) => row.order_no)];
  const events = await selectRows(
    reader,
    eventRow,
    `SELECT e.order_no, e.status, e.version, e.payment, e.reason AS closing_reason, e.refunded, e.extended_until,
       n.events, n.first_version,
       f.status = 'failed' OR (f.status = 'awaiting_payment' AND f.payment = 'none' AND f.reason IS NULL) AS valid_start
     FROM order_events e
     JOIN (SELECT order_no, MIN(version) AS first_version, MAX(version) AS version, COUNT(*) AS events
       FROM order_events WHERE order_no IN (?) GROUP BY order_no) n
       ON n.order_no = e.order_no AND n.version = e.version
     JOIN order_events f ON f.order_no = n.order_no AND f.version = n.first_version`,
    orderNos,
  );
  const items = await selectRows(
    reader,
    itemRow,
    'SELECT order_no, sku, quantity, stock_returned FROM order_items WHERE order_no IN (?)',
    orderNos,
  );
  const booked = await selectRows(
    reader,
    bookedRow,
    `SELECT order_no, sku, movement, SUM(quantity) AS quantity FROM stock_ledger WHERE order_no IN (?)
     GROUP BY order_no, sku, movement`,
    orderNos,
  );
  const lastEvents = new Map(events.map((event) => [event.order_no, event]));
  const itemsOf = groupByOrder(items);
  const bookedOf = groupByOrder(booked);
  return rows.flatMap((row) => {
    const detail =
      findHistoryFault(row, lastEvents.get(row.order_no)) ??
      findBookingFault(row, itemsOf.get(row.order_no) ?? [], bookedOf.get(row.order_no) ?? []);
    return detail === undefined ? [] : [{ orderNo: row.order_no, detail }];
  });
}

/**
 * Each change of a row writes its event in the same transaction, so the last one is the row's state, and the
 * first one stored or abandoned it. That one has a version above 1 where MySQL had lost the order before.
 */
function findHistoryFault(row: OrderRow, last: z.infer<typeof eventRow> | undefined): string | undefined {
  const isRecorded =
    last?.version === row.version &&
    last.valid_start &&
    last.events === row.version - last.first_version + 1 &&
    last.status === row.status &&
    last.payment === row.payment &&
    last.refunded === row.refunded &&
    last.extended_until?.getTime() === row.extended_until?.getTime() &&
    last.closing_reason === row.closing_reason;
  if (isRecorded) return undefined;
  const recorded = last ? `${showState(last)}, ${last.events} in all` : 'nothing';
  return `its row is ${showState(row)}; the last event: ${recorded}`;
}

function showState({ status, payment, version, closing_reason: reason }: Omit<OrderRow, 'order_no'>) {
  return `${status}, payment ${payment}${reason === null ? '' : `, ${reason}`} (version ${version})`;
}

/** What an order's state books of one of its items. Units may be returned in parts, which add up. */
function movementsOf(
  { status }: OrderRow,
  { sku, quantity, stock_returned: returned }: z.infer<typeof itemRow>,
): string[] {
  const book = (movement: string, units = quantity): string[] =>
    units > 0 ? [`${movement} ${units} ${sku}`] : [];
  switch (status) {
    case 'awaiting_payment':
      return book('hold');
    case 'paid':
      return [...book('hold'), ...book('sell'), ...book('return', returned)];
    case 'cancelled':
      return [...book('hold'), ...book('release')];
    // A tombstone was never stored, and has no items.
    case 'failed':
    case 'queued':
      return [];
    default:
      return status satisfies never;
  }
}

function findBookingFault(
  row: OrderRow,
  items: readonly z.infer<typeof itemRow>[],
  booked: readonly z.infer<typeof bookedRow>[],
): string | undefined {
  const expected = items.flatMap((item) => movementsOf(row, item));
  const found = booked.map(({ movement, quantity, sku }) => `${movement} ${quantity} ${sku}`);
  const [expectedText, foundText] = [expected, found].map((lines) => lines.toSorted().join(', '));
  if (expectedText === foundText) return undefined;
  return `it is ${row.status}, which books: ${expectedText || 'nothing'}; booked are: ${foundText || 'nothing'}`;
}

function groupByOrder<R extends { order_no: string }>(rows: readonly R[]): Map<string, R[]> {
  const byOrder = new Map<string, R[]>();
  for (const row of rows) {
    const group = byOrder.get(row.order_no);
    if (group) group.push(row);
    else byOrder.set(row.order_no, [row]);
  }
  return byOrder;
}
