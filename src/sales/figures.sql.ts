/** Adds up what became of a sale's orders, where their events are numbered. No read of it looks at orders. */

import { z } from 'zod';
import { modify, selectRows, type Pool, type PoolConnection } from '../mysql/connection.ts';
import { isFinal } from '../orders/order.ts';
import { chargesColumn, stateColumns } from '../orders/rows.sql.ts';
import { PAID_WITHIN_SECONDS, STEP_SECONDS, type SalePoint, type SaleTotals, type Step } from './figures.ts';

/** Changes of orders `e`, each with the state before it, `b`; a new order has none. */
export const CHANGES =
  'order_events e LEFT JOIN order_events b ON b.order_no = e.order_no AND b.version = e.version - 1';
const OF_PAGE = `${CHANGES} JOIN orders o ON o.order_no = e.order_no`;
const IN_PAGE = 'e.sequence > ? AND e.sequence <= ?';
const IS_PAID_NOW = `e.status = 'paid' AND NOT (b.status <=> 'paid')`;

const unixSeconds = (time: string): string => `TIMESTAMPDIFF(SECOND, '1970-01-01', ${time})`;

const changeRow = z.object({
  saleId: z.string(),
  status: stateColumns.status,
  was: stateColumns.status.nullable(),
  reason: z.string().nullable(),
  acceptedS: z.int(),
  occurredS: z.int(),
  paidWithin: z.int(),
  orders: z.int(),
  total: z.coerce.number(),
  refunded: z.coerce.number(),
  charged: z.coerce.boolean(),
});
const skuRow = z.object({ saleId: z.string(), sku: z.string(), amount: z.coerce.number() });
const chargesRow = z.object({ saleId: z.string(), charges: z.string(), orders: z.int() });

/** The step of a figure of the whole sale, which begins at 0. */
const WHOLE = 0;

type Added = [saleId: string, step: number, beginsS: number, figure: string, total: number];

/**
 * Adds the changes of orders after one sequence and up to another, in the transaction that gives them their
 * numbers. An event gets one number in its life, so each change counts once. The server sums what is alike.
 */
export async function addChanges(connection: PoolConnection, after: number, upTo: number): Promise<void> {
  const sums = new Map<string, Added>();
  function add(saleId: string, figure: string, count: number, atS?: number): void {
    for (const step of atS === undefined ? [WHOLE] : [WHOLE, ...Object.values(STEP_SECONDS)]) {
      const beginsS = step === WHOLE || atS === undefined ? 0 : atS - (atS % step);
      const key = `${saleId} ${step} ${beginsS} ${figure}`;
      const sum = sums.get(key) ?? [saleId, step, beginsS, figure, 0];
      sum[4] += count;
      sums.set(key, sum);
    }
  }

  const range = [after, upTo];
  const changes = await selectChanges(connection, range);
  for (const row of changes) {
    const { saleId, status, was, orders, occurredS } = row;
    if (was === null) add(saleId, 'accepted', orders, row.acceptedS);
    if (row.refunded !== 0) add(saleId, 'refunded', row.refunded);
    if (status === was || !isFinal(status)) continue;
    if (status !== 'paid') {
      add(saleId, `ended:${row.reason}`, orders, occurredS);
      continue;
    }
    add(saleId, 'paid', orders, occurredS);
    add(saleId, 'taken', row.total);
    if (row.paidWithin >= 0) add(saleId, `paid_within:${row.paidWithin}`, orders);
  }
  // Most pages of a rush have no paid order, and most sales no charges.
  const paid = changes.filter(({ status, was }) => status === 'paid' && was !== 'paid');
  if (paid.length > 0) await addSkus(connection, range, add);
  if (paid.some(({ charged }) => charged)) await addCharges(connection, range, add);
  if (sums.size === 0) return;
  await modify(
    connection,
    `INSERT INTO sale_figures (sale_id, step, begins, figure, total) VALUES ?
     ON DUPLICATE KEY UPDATE total = total + VALUES(total)`,
    [[...sums.values()]],
  );
}

/** A free order is paid at once: no shopper took time to pay it. */
function selectChanges(connection: PoolConnection, range: unknown[]) {
  return selectRows(
    connection,
    changeRow,
    `SELECT saleId, status, was, reason, acceptedS, occurredS, paidWithin, COUNT(*) AS orders,
       SUM(total) AS total, SUM(refunded) AS refunded, MAX(charged) AS charged
     FROM (
       SELECT o.sale_id AS saleId, e.status, b.status AS was, e.reason, o.total,
         o.charges IS NOT NULL AS charged,
         CAST(e.refunded AS SIGNED) - CAST(COALESCE(b.refunded, 0) AS SIGNED) AS refunded,
         IF(b.status IS NULL, ${unixSeconds('o.reserved_at')}, 0) AS acceptedS,
         ${unixSeconds('e.occurred_at')} AS occurredS,
         IF(${IS_PAID_NOW} AND o.total > 0,
           INTERVAL(TIMESTAMPDIFF(SECOND, o.reserved_at, e.occurred_at), ?), -1) AS paidWithin
       FROM ${OF_PAGE}
       WHERE ${IN_PAGE} AND (b.status IS NULL OR b.status <> e.status OR b.refunded <> e.refunded)
     ) changes
     GROUP BY saleId, status, was, reason, acceptedS, occurredS, paidWithin`,
    [PAID_WITHIN_SECONDS, ...range],
  );
}

type Add = (saleId: string, figure: string, count: number) => void;

/** The units of the orders that are paid now, at their price. */
async function addSkus(connection: PoolConnection, range: unknown[], add: Add): Promise<void> {
  const skus = await selectRows(
    connection,
    skuRow,
    `SELECT o.sale_id AS saleId, i.sku, SUM(i.quantity * i.unit_price) AS amount
     FROM ${OF_PAGE} JOIN order_items i ON i.order_no = e.order_no
     WHERE ${IN_PAGE} AND ${IS_PAID_NOW} GROUP BY o.sale_id, i.sku`,
    range,
  );
  for (const { saleId, sku, amount } of skus) add(saleId, `sku:${sku}`, amount);
}

/** The charges of the same. */
async function addCharges(connection: PoolConnection, range: unknown[], add: Add): Promise<void> {
  const charged = await selectRows(
    connection,
    chargesRow,
    // By a digest: of a long text a group compares only the beginning.
    `SELECT o.sale_id AS saleId, MIN(o.charges) AS charges, COUNT(*) AS orders FROM ${OF_PAGE}
     WHERE ${IN_PAGE} AND ${IS_PAID_NOW} AND o.charges IS NOT NULL GROUP BY o.sale_id, SHA2(o.charges, 256)`,
    range,
  );
  for (const { saleId, charges, orders } of charged)
    // A text that a hand has damaged must not keep events from being numbered.
    for (const { code, amount } of chargesColumn.safeParse(charges).data ?? [])
      add(saleId, `charge:${code}`, amount * orders);
}

const totalRow = z.object({
  saleId: z.string(),
  currency: z.string(),
  figure: z.string().nullable(),
  total: z.int().nullable(),
});

/** The totals of these sales; of one that has no orders too. */
export async function readTotals(pool: Pool, saleIds: readonly string[]): Promise<SaleTotals[]> {
  if (saleIds.length === 0) return [];
  const rows = await selectRows(
    pool,
    totalRow,
    `SELECT s.sale_id AS saleId, s.currency, f.figure, f.total FROM sales s
     LEFT JOIN sale_figures f ON f.sale_id = s.sale_id AND f.step = ${WHOLE}
     WHERE s.sale_id IN (?)`,
    [saleIds],
  );
  return saleIds.flatMap((saleId) => {
    const own = rows.filter((row) => row.saleId === saleId);
    const [first] = own;
    if (!first) return [];
    const totals = new Map(own.map(({ figure, total }) => [figure ?? '', total ?? 0]));
    const within = [...PAID_WITHIN_SECONDS, Infinity];
    return [
      {
        saleId,
        currency: first.currency,
        ...statesOf(totals),
        taken: totals.get('taken') ?? 0,
        refunded: totals.get('refunded') ?? 0,
        charges: named(totals, 'charge:'),
        skus: named(totals, 'sku:'),
        paidWithin: within.map((_, i) => totals.get(`paid_within:${i}`) ?? 0),
      },
    ];
  });
}

const pointRow = z.object({ begins: z.int(), figure: z.string(), total: z.int() });

/** The points of a sale from one time until before another (Unix time in seconds), where anything was. */
export async function readPoints(
  pool: Pool,
  saleId: string,
  step: Step,
  fromS: number,
  untilS: number,
): Promise<SalePoint[]> {
  const rows = await selectRows(
    pool,
    pointRow,
    `SELECT begins, figure, total FROM sale_figures
     WHERE sale_id = ? AND step = ? AND begins >= ? AND begins < ?`,
    [saleId, STEP_SECONDS[step], fromS, untilS],
  );
  const points = new Map<number, Map<string, number>>();
  for (const { begins, figure, total } of rows)
    points.set(begins, (points.get(begins) ?? new Map<string, number>()).set(figure, total));
  return [...points].map(([beginsS, totals]) => ({ beginsS, ...statesOf(totals) }));
}

const statesOf = (totals: ReadonlyMap<string, number>) => ({
  accepted: totals.get('accepted') ?? 0,
  paid: totals.get('paid') ?? 0,
  endedUnpaid: named(totals, 'ended:'),
});

/** Those whose names begin so, without that. */
function named(totals: ReadonlyMap<string, number>, prefix: string): Record<string, number> {
  return Object.fromEntries(
    [...totals].flatMap(([figure, total]) =>
      figure.startsWith(prefix) ? [[figure.slice(prefix.length), total]] : [],
    ),
  );
}

/** Numbering keeps up with some thousands a second. Of a longer backlog the beginning is enough. */
const WAITING_MAX = 10_000;

const completeRow = z.object({ now: z.date(), oldest: z.date().nullable(), redisSince: z.date().nullable() });

/**
 * Up to when every change of an order is counted, and since when Redis has the data of this sale that it has;
 * undefined: it has none. In Unix ms, by MySQL's clock.
 */
export async function readComplete(
  pool: Pool,
  saleId: string,
): Promise<{ nowMs: number; countedUntilMs: number; redisSinceMs: number | undefined }> {
  const [row] = await selectRows(
    pool,
    completeRow,
    `SELECT NOW(3) AS now,
       (SELECT MIN(occurred_at) FROM (
         SELECT occurred_at FROM order_events WHERE sequence IS NULL LIMIT ${WAITING_MAX}) waiting) AS oldest,
       (SELECT COALESCE(rebuilding_since, rebuilt_at, warmed_up_at) FROM sales WHERE sale_id = ?) AS redisSince`,
    [saleId],
  );
  const now = row?.now ?? new Date(0);
  return {
    nowMs: now.getTime(),
    countedUntilMs: (row?.oldest ?? now).getTime(),
    redisSinceMs: row?.redisSince?.getTime(),
  };
}
