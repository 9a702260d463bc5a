/** What became of the orders of a SKU that was called off in a trial: each cent of it went back once. */

import { z } from 'zod';
import { selectRows } from '../src/mysql/connection.ts';
import type { Violation } from './history.ts';
import type { System } from './system.ts';

type Deps = Pick<System, 'stores'>;

/** The SKUs whose calling-off goes on. */
export async function listCallingOffs({ stores }: Deps, saleId: string): Promise<string[]> {
  const rows = await selectRows(
    stores.pool,
    z.object({ sku: z.string() }),
    'SELECT sku FROM calling_offs WHERE sale_id = ? AND ended_at IS NULL',
    [saleId],
  );
  return rows.map(({ sku }) => sku);
}

const orderRow = z.object({
  order_no: z.string(),
  status: z.string(),
  price: z.coerce.number(),
  returned: z.coerce.number(),
});
const stockRow = z.object({ sku: z.string(), held: z.int(), sold: z.int() });

/**
 * Of a paid order the price of the SKU's units went back of its own payment, and nothing else; no unit is
 * held or sold. Nobody but the calling-off refunds these orders, and both books agree on each payment.
 */
export async function checkCalledOff({ stores }: Deps, saleId: string): Promise<Violation[]> {
  const check = 'of what is called off each cent goes back once';
  const orders = await selectRows(
    stores.pool,
    orderRow,
    `SELECT o.order_no, o.status, i.quantity * i.unit_price AS price,
       (SELECT COALESCE(SUM(r.amount), 0) FROM payments p JOIN reversals r ON r.provider = p.provider
          AND r.provider_payment_id = p.provider_payment_id AND r.status = 'succeeded'
        WHERE p.order_no = o.order_no AND p.applied_at IS NOT NULL) AS returned
     FROM calling_offs c JOIN orders o ON o.sale_id = c.sale_id
     JOIN order_items i ON i.order_no = o.order_no AND i.sku = c.sku
     WHERE c.sale_id = ? AND o.status NOT IN ('cancelled', 'failed')`,
    [saleId],
  );
  const stock = await selectRows(
    stores.pool,
    stockRow,
    `SELECT s.sku, s.held, s.sold FROM calling_offs c JOIN skus s ON s.sale_id = c.sale_id AND s.sku = c.sku
     WHERE c.sale_id = ?`,
    [saleId],
  );
  return [
    ...orders
      .filter(({ status, price, returned }) => status !== 'paid' || returned !== price)
      .map(({ order_no: subject, status, price, returned }) => ({
        check,
        subject,
        detail: `${status}, and ${returned} of ${price} went back`,
      })),
    ...stock
      .filter(({ held, sold }) => held + sold > 0)
      .map(({ sku: subject, held, sold }) => ({ check, subject, detail: `${held} held, ${sold} sold` })),
  ];
}
