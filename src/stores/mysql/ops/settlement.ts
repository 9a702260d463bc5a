/** The settlement of a sale: a line for each order, charge, payment, refund and dispute, as of one moment. */

import { z } from 'zod';
import {
  beginSnapshot,
  selectRows,
  takeConnection,
  within,
  type Pool,
  type PoolConnection,
} from '../connection.ts';
import { selectOrders, type StoredOrder } from '../rows/order-rows.ts';
import { reversalColumns } from '../rows/reversal-rows.ts';

/** Orders of one page: an answer of some hundred KiB. */
const PAGE_SIZE = 500;
/** For one page; a server that hangs must not keep the connection. */
const PAGE_TIMEOUT_MS = 8_000;

const paymentRow = z.object({
  order_no: z.string(),
  provider: z.string(),
  provider_payment_id: z.string(),
  amount: z.int(),
  currency: z.string(),
  status: z.string(),
  received_at: z.date(),
});
const reversalRow = z.object({
  order_no: z.string(),
  provider: z.string(),
  provider_reversal_id: z.string(),
  ...reversalColumns,
  created_at: z.date(),
});

export interface SettlementLine {
  line: 'order' | 'charge' | 'payment' | 'refund' | 'dispute';
  orderNo: string;
  /** The provider's id, or the code of a charge. */
  id: string;
  provider: string;
  /** Minor units; what goes back to the payer is negative. */
  amount: number;
  currency: string;
  status: string;
  reference: string;
  at: Date;
}

/**
 * The lines of a sale's stored orders, in the order of their numbers, a page at a time. All pages are read on
 * one connection, as of one moment; it goes back when the caller ends.
 * @throws when MySQL is away or too slow
 */
export async function* readSettlement(pool: Pool, saleId: string): AsyncGenerator<SettlementLine[]> {
  const connection = await takeConnection(pool);
  const run = <T>(work: () => Promise<T>): Promise<T> =>
    within(PAGE_TIMEOUT_MS, work(), () => connection.destroy());
  try {
    await run(() => beginSnapshot(connection));
    for (let after = ''; ;) {
      const orders = await run(() => readOrderPage(connection, saleId, after));
      const last = orders.at(-1);
      if (!last) return;
      yield await run(() => readLines(connection, orders));
      after = last.order.orderNo;
    }
  } finally {
    await run(() => connection.rollback()).catch(() => connection.destroy());
    connection.release();
  }
}

function readOrderPage(connection: PoolConnection, saleId: string, after: string): Promise<StoredOrder[]> {
  return selectOrders(
    connection,
    // The pattern makes it a range of the primary key.
    'sale_id = ? AND order_no > ? AND order_no LIKE ? ORDER BY order_no LIMIT ?',
    [saleId, after, `${saleId}-%`, PAGE_SIZE],
  );
}

async function readLines(
  connection: PoolConnection,
  orders: readonly StoredOrder[],
): Promise<SettlementLine[]> {
  const orderNos = [orders.map(({ order }) => order.orderNo)];
  const payments = await selectRows(
    connection,
    paymentRow,
    `SELECT order_no, provider, provider_payment_id, amount, currency, status, received_at FROM payments
     WHERE order_no IN (?) ORDER BY payment_id`,
    orderNos,
  );
  const reversals = await selectRows(
    connection,
    reversalRow,
    `SELECT p.order_no, r.provider, r.provider_reversal_id, r.kind, r.amount, r.currency, r.status, r.created_at
     FROM payments p JOIN reversals r
       ON r.provider = p.provider AND r.provider_payment_id = p.provider_payment_id
     WHERE p.order_no IN (?) ORDER BY r.reversal_id`,
    orderNos,
  );
  return orders.flatMap(({ order, state }): SettlementLine[] => {
    const { orderNo, total, currency, charges = [], reference = '' } = order;
    const of = { orderNo, currency, reference, provider: '', id: '' };
    const at = new Date(order.reservedAtMs);
    const { status } = state;
    return [
      { ...of, line: 'order', amount: total, status, at },
      ...charges.map(({ code, amount }) => ({
        ...of,
        line: 'charge' as const,
        id: code,
        amount,
        status,
        at,
      })),
      ...payments
        .filter((row) => row.order_no === orderNo)
        .map((row) => ({
          ...of,
          line: 'payment' as const,
          id: row.provider_payment_id,
          provider: row.provider,
          amount: row.amount,
          currency: row.currency,
          status: row.status,
          at: row.received_at,
        })),
      ...reversals
        .filter((row) => row.order_no === orderNo)
        .map((row) => ({
          ...of,
          line: row.kind,
          id: row.provider_reversal_id,
          provider: row.provider,
          amount: -row.amount,
          currency: row.currency,
          status: row.status,
          at: row.created_at,
        })),
    ];
  });
}
