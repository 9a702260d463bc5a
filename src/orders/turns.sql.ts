/** Sales take turns: a sale with many orders that wait does not keep the orders of other sales waiting. */

import { z } from 'zod';
import { selectRows, type Executor } from '../mysql/connection.ts';

/** Sales of one pass. The others have their turn in the next passes. */
const SALES_MAX = 50;

/** The open orders that no workflow has begun, by the index that has them by sale and deadline. */
export const UNBEGUN = {
  hint: ' FORCE INDEX (orders_to_end)',
  where: `status = 'awaiting_payment' AND end_due_at IS NULL AND workflow_started_at IS NULL`,
};

const saleRow = z.object({ sale_id: z.string() });

/**
 * The sales that have open orders which no workflow has begun, one seek of the index each.
 * @param after the sale that had the last turn; empty: none
 * @returns in the order of their turns
 */
export async function listUnbegunSales(reader: Executor, after: string): Promise<string[]> {
  const seek = async (from: string): Promise<string | undefined> => {
    const rows = await selectRows(
      reader,
      saleRow,
      `SELECT sale_id FROM orders${UNBEGUN.hint} WHERE ${UNBEGUN.where} AND sale_id > ?
       ORDER BY sale_id LIMIT 1`,
      [from],
    );
    return rows[0]?.sale_id;
  };
  const sales: string[] = [];
  for (let next = await seek(after); next !== undefined && sales.length < SALES_MAX; next = await seek(next))
    sales.push(next);
  if (after === '') return sales;
  for (let next = await seek(''); next !== undefined && next <= after; next = await seek(next)) {
    if (sales.length === SALES_MAX) break;
    sales.push(next);
  }
  return sales;
}
