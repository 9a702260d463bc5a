/** The counters of a SKU in MySQL, compared with its ledger and orders, and corrected. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { inTransaction, modify, selectRows, type Executor, type Pool } from '../connection.ts';
import { recordAction } from '../rows/audit-log.ts';
import { SYSTEM } from './repairs.ts';

const countersRow = z.object({ total: z.int(), held: z.int(), sold: z.int() });
const sumRow = z.object({
  sku: z.string(),
  movement: z.enum(['hold', 'sell', 'release', 'return']),
  units: z.coerce.number(),
});
const countRow = z.object({ held: z.coerce.number(), sold: z.coerce.number() });

export interface Counts {
  held: number;
  sold: number;
}

/** unexplained: the ledger and the orders do not agree either, so no rule says what is right. */
export type CountersOutcome = { kind: 'corrected' | 'right' } | { kind: 'unexplained'; detail: string };

/** What the states of all orders imply; slow, and needed only where counters are wrong. */
const ORDERED = `SELECT COALESCE(SUM(IF(o.status = 'awaiting_payment', i.quantity, 0)), 0) AS held,
    COALESCE(SUM(IF(o.status = 'paid', i.quantity - i.stock_returned, 0)), 0) AS sold
  FROM orders o JOIN order_items i ON i.order_no = o.order_no WHERE o.sale_id = ? AND i.sku = ?`;

/**
 * Sets a SKU's counters to what ledger and orders say, where these two agree, and writes it down. Under
 * the lock of the counters' row each booking is either whole or has not begun.
 */
export function correctCounters(pool: Pool, saleId: string, sku: string): Promise<CountersOutcome> {
  return inTransaction(pool, async (connection) => {
    const [row] = await selectRows(
      connection,
      countersRow,
      'SELECT total, held, sold FROM skus WHERE sale_id = ? AND sku = ? FOR UPDATE',
      [saleId, sku],
    );
    assert(row, `sale ${saleId} has no SKU ${sku}`);
    const booked = toCounts((await readSums(connection, saleId)).filter((sum) => sum.sku === sku));
    const before = { held: row.held, sold: row.sold };
    if (isEqual(before, booked)) return { kind: 'right' };
    const [ordered = { held: 0, sold: 0 }] = await selectRows(connection, countRow, ORDERED, [saleId, sku]);
    const detail = `counted ${show(before)}; booked ${show(booked)}; in orders ${show(ordered)}`;
    const isPossible = booked.held >= 0 && booked.sold >= 0 && booked.held + booked.sold <= row.total;
    if (!isEqual(booked, ordered) || !isPossible) return { kind: 'unexplained', detail };
    await modify(connection, 'UPDATE skus SET held = ?, sold = ? WHERE sale_id = ? AND sku = ?', [
      booked.held,
      booked.sold,
      saleId,
      sku,
    ]);
    await recordAction(connection, {
      actor: SYSTEM,
      reason: null,
      action: 'counters_corrected',
      subject: `${saleId} ${sku}`,
      detail: { before, after: booked },
    });
    return { kind: 'corrected' };
  });
}

/** The sums of the ledger, by movement and SKU. */
export function readSums(reader: Executor, saleId: string) {
  return selectRows(
    reader,
    sumRow,
    'SELECT movement, sku, SUM(quantity) AS units FROM stock_ledger WHERE sale_id = ? GROUP BY movement, sku',
    [saleId],
  );
}

export function toCounts(sums: readonly z.infer<typeof sumRow>[]): Counts {
  const units = (movement: string) =>
    sums.filter((sum) => sum.movement === movement).reduce((all, sum) => all + sum.units, 0);
  return {
    held: units('hold') - units('sell') - units('release'),
    sold: units('sell') - units('return'),
  };
}

function isEqual(one: Counts, other: Counts): boolean {
  return one.held === other.held && one.sold === other.sold;
}

function show({ held, sold }: Counts): string {
  return `${held} held and ${sold} sold`;
}
