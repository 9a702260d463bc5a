/** Sales take turns: a sale with many orders that wait does not keep the orders of other sales waiting. */

import { z } from 'zod';
import { selectRows, type Executor } from '../mysql/connection.ts';
import { takeTurns } from '../turns.ts';

/** The open orders that no workflow has begun, by the index that has them by sale and deadline. */
export const UNBEGUN = {
  hint: ' FORCE INDEX (orders_to_end)',
  where: `status = 'awaiting_payment' AND end_due_at IS NULL AND workflow_started_at IS NULL`,
};

const turnRow = z.object({ turn: z.string().nullable() });

/**
 * The sales that have open orders which no workflow has begun, one seek of the index each.
 * @param after the sale that had the last turn; empty: none
 * @returns in the order of their turns
 */
export async function listUnbegunSales(reader: Executor, after: string): Promise<string[]> {
  const unbegun = `SELECT sale_id FROM orders${UNBEGUN.hint} WHERE ${UNBEGUN.where}`;
  const findNext = async (from: string): Promise<string | undefined> => {
    const [row] = await selectRows(
      reader,
      turnRow,
      `SELECT COALESCE((${unbegun} AND sale_id > ? ORDER BY sale_id LIMIT 1),
         (${unbegun} ORDER BY sale_id LIMIT 1)) AS turn`,
      [from],
    );
    return row?.turn ?? undefined;
  };
  const sales: string[] = [];
  for await (const saleId of takeTurns(findNext, after)) sales.push(saleId);
  return sales;
}
