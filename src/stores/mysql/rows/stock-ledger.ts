/**
 * Books stock movements in MySQL: in the ledger and on the SKU's counters, in the transaction of the order.
 */

import type { OrderUnits } from '../../../domain/order.ts';
import { modify, type PoolConnection } from '../connection.ts';

/** hold: available → held. sell: held → sold. release: held → available. return: sold → available. */
export type Movement = 'hold' | 'sell' | 'release' | 'return';

/** An order names a SKU that its sale does not have. */
export class UnknownSkuError extends Error {
  override name = 'UnknownSkuError';
}

const COUNTERS: Record<Movement, string> = {
  hold: 'held = held + ?',
  sell: 'sold = sold + ?, held = held - ?',
  release: 'held = held - ?',
  return: 'sold = sold - ?',
};

export interface Booking {
  orderNo: string;
  saleId: string;
  items: readonly OrderUnits[];
  /** Of a return: as in `GiveBack`. Nothing else has parts. */
  part?: string;
}

/**
 * Books one movement for each of the orders. It must be the last call in a transaction: every transaction
 * needs the counters' rows, so they are locked once per SKU, in SKU order, and only until the commit.
 * @throws UnknownSkuError, or the violation of the CHECK when more would be held than exists
 */
export async function bookMovement(
  connection: PoolConnection,
  movement: Movement,
  bookings: readonly Booking[],
): Promise<void> {
  const lines = bookings.flatMap(({ orderNo, saleId, items, part = '' }) =>
    items.map((item) => ({ orderNo, saleId, part, ...item })),
  );
  if (lines.length === 0) return;
  await modify(
    connection,
    'INSERT INTO stock_ledger (sale_id, sku, order_no, movement, part, quantity) VALUES ?',
    [lines.map((line) => [line.saleId, line.sku, line.orderNo, movement, line.part, line.quantity])],
  );
  for (const { saleId, sku, units } of sumBySku(lines)) {
    const amounts = movement === 'sell' ? [units, units] : [units];
    const changed = await modify(
      connection,
      `UPDATE skus SET ${COUNTERS[movement]} WHERE sale_id = ? AND sku = ?`,
      [...amounts, saleId, sku],
    );
    if (changed !== 1) throw new UnknownSkuError(`sale ${saleId} has no SKU ${sku}`);
  }
}

function sumBySku(lines: readonly { saleId: string; sku: string; quantity: number }[]) {
  const sums = new Map<string, { saleId: string; sku: string; units: number }>();
  for (const { saleId, sku, quantity } of lines) {
    const key = `${saleId} ${sku}`;
    const sum = sums.get(key) ?? { saleId, sku, units: 0 };
    sums.set(key, { ...sum, units: sum.units + quantity });
  }
  return [...sums.entries()].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, sum]) => sum);
}
