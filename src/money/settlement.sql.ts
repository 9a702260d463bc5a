/** The settlement of a sale, as of one moment: a line for each order, charge, payment, reversal and fee. */

import { z } from 'zod';
import {
  beginSnapshot,
  selectRows,
  takeConnection,
  within,
  type Pool,
  type PoolConnection,
} from '../mysql/connection.ts';
import { boundsOfSale, parseOrderNo } from '../orders/order.ts';
import { stateColumns, chargesColumn } from '../orders/rows.sql.ts';
import { reversalColumns } from './reversals.sql.ts';

/** Order numbers of one page: an answer of some hundred KiB. */
const PAGE_SIZE = 500;
/** For one page; a server that hangs must not keep the connection. */
const PAGE_TIMEOUT_MS = 8_000;

const numberRow = z.object({ order_no: z.string() });
const orderRow = z.object({
  order_no: z.string(),
  status: stateColumns.status,
  total: z.int(),
  currency: z.string(),
  charges: chargesColumn,
  reference: z.string().nullable(),
  reserved_at: z.date(),
});
const paymentRow = z.object({
  order_no: z.string(),
  provider: z.string(),
  provider_payment_id: z.string(),
  amount: z.int(),
  currency: z.string(),
  status: z.string(),
  fee: z.int().nullable(),
  received_at: z.date(),
});
const reversalRow = z.object({
  order_no: z.string(),
  provider: z.string(),
  provider_reversal_id: z.string(),
  ...reversalColumns,
  fee: z.int().nullable(),
  created_at: z.date(),
});

export interface SettlementLine {
  line: 'order' | 'charge' | 'payment' | 'refund' | 'dispute' | 'fee';
  orderNo: string;
  /** The provider's id, of a fee that of what it is for; or the code of a charge. */
  id: string;
  provider: string;
  /** Minor units; what goes back to the payer, or to the provider, is negative. */
  amount: number;
  currency: string;
  status: string;
  reference: string;
  at: Date;
}

/**
 * The lines of all order numbers of a sale, in the order of the numbers, a page at a time: of its stored
 * orders, and of payments that name an order which is not stored. All pages are read on one connection, as of
 * one moment; it goes back when the caller ends.
 * @throws when MySQL is away or too slow
 */
export async function* readSettlement(pool: Pool, saleId: string): AsyncGenerator<SettlementLine[]> {
  const connection = await takeConnection(pool);
  const run = <T>(work: () => Promise<T>): Promise<T> =>
    within(PAGE_TIMEOUT_MS, work(), () => connection.destroy());
  try {
    await run(() => beginSnapshot(connection));
    for (let after = ''; ;) {
      const found = await run(() => readNumbers(connection, saleId, after));
      const last = found.at(-1);
      if (last === undefined) return;
      const own = found.filter((orderNo) => parseOrderNo(orderNo)?.saleId === saleId);
      if (own.length > 0) yield await run(() => readLines(connection, own));
      after = last;
    }
  } finally {
    await run(() => connection.rollback()).catch(() => connection.destroy());
    connection.release();
  }
}

/** The next order numbers within the sale's bounds, of orders and of payments, which may name anything. */
async function readNumbers(connection: PoolConnection, saleId: string, after: string): Promise<string[]> {
  const range = 'order_no > ? AND order_no < ? ORDER BY order_no LIMIT ?';
  const values = [...boundsOfSale(saleId, after), PAGE_SIZE];
  const rows = await selectRows(
    connection,
    numberRow,
    // Without the hints MySQL skips through another index, and reads all orders of the sale for each page.
    `(SELECT order_no FROM orders FORCE INDEX (PRIMARY) WHERE ${range})
     UNION (SELECT DISTINCT order_no FROM payments FORCE INDEX (payments_of_order) WHERE ${range})
     ORDER BY order_no LIMIT ?`,
    [...values, ...values, PAGE_SIZE],
  );
  return rows.map((row) => row.order_no);
}

async function readLines(connection: PoolConnection, orderNos: readonly string[]): Promise<SettlementLine[]> {
  const orders = await selectRows(
    connection,
    orderRow,
    `SELECT order_no, status, total, currency, charges, reference, reserved_at FROM orders
     WHERE order_no IN (?)`,
    [orderNos],
  );
  const payments = await selectRows(
    connection,
    paymentRow,
    `SELECT order_no, provider, provider_payment_id, amount, currency, status, fee, received_at FROM payments
     WHERE order_no IN (?) ORDER BY payment_id`,
    [orderNos],
  );
  const reversals = await selectRows(
    connection,
    reversalRow,
    `SELECT p.order_no, r.provider, r.provider_reversal_id, r.kind, r.amount, r.currency, r.status, r.fee,
       r.created_at FROM payments p JOIN reversals r
       ON r.provider = p.provider AND r.provider_payment_id = p.provider_payment_id
     WHERE p.order_no IN (?) ORDER BY r.reversal_id`,
    [orderNos],
  );
  const references = new Map(orders.map((order) => [order.order_no, order.reference ?? '']));
  const linesOf = new Map<string, SettlementLine[]>(orderNos.map((orderNo) => [orderNo, []]));
  const add = (orderNo: string, line: Omit<SettlementLine, 'orderNo' | 'reference'>): void => {
    linesOf.get(orderNo)?.push({ orderNo, reference: references.get(orderNo) ?? '', ...line });
  };
  for (const { order_no: orderNo, total, currency, status, charges, reserved_at: at } of orders) {
    const of = { provider: '', currency, status, at };
    add(orderNo, { ...of, line: 'order', id: '', amount: total });
    for (const { code, amount } of charges ?? []) add(orderNo, { ...of, line: 'charge', id: code, amount });
  }
  for (const row of payments) {
    const { provider, provider_payment_id: id, amount, currency, status, received_at: at } = row;
    add(row.order_no, { line: 'payment', id, provider, amount, currency, status, at });
    if (row.fee) add(row.order_no, { line: 'fee', id, provider, amount: -row.fee, currency, status, at });
  }
  for (const row of reversals) {
    const { kind: line, provider, provider_reversal_id: id, amount, currency, status, created_at: at } = row;
    add(row.order_no, { line, id, provider, amount: -amount, currency, status, at });
    if (row.fee) add(row.order_no, { line: 'fee', id, provider, amount: -row.fee, currency, status, at });
  }
  return [...linesOf.values()].flat();
}
