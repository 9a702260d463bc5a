/** Books what refunds give back to their sale, and reads what of it Redis is to have. */

import { z } from 'zod';
import type { GiveBack, OrderUnits } from '../../../domain/order.ts';
import {
  inTransaction,
  modify,
  selectRows,
  type Executor,
  type Pool,
  type PoolConnection,
} from '../connection.ts';
import { recordAction, type Decision } from '../rows/audit-log.ts';
import { lockOrder, readOrders, type StoredOrder } from '../rows/order-rows.ts';
import { resolveStockDecision } from '../rows/parked.ts';
import {
  lockPaymentAndOrder,
  makeRefundSignalDue,
  readPayment,
  selectPayments,
} from '../rows/payment-rows.ts';
import { IS_GIVE_BACK_DUE, readRefundsOf, selectRefunds, type Refund } from '../rows/refund-rows.ts';
import { bookMovement } from '../rows/stock-ledger.ts';

const returnedRow = z.object({ limit_returned: z.coerce.boolean(), stock_returned: z.coerce.boolean() });
const lineRow = z.object({ sku: z.string(), quantity: z.int() });

/**
 * Books stock and limit of the payment's refunds that have ended. A repeat books nothing more.
 */
export function bookGiveBacks(pool: Pool, paymentId: number): Promise<void> {
  return inTransaction(pool, async (connection) => {
    const locked = await lockPaymentAndOrder(connection, paymentId);
    if (!locked?.stored) return;
    const { order } = locked.stored;
    const condition = `payment_id = ? AND ${IS_GIVE_BACK_DUE} ORDER BY refund_id`;
    const due = await selectRefunds(connection, condition, [paymentId]);
    // What went back as a whole is not given back once more by its parts.
    const whole = await readReturned(connection, order.orderNo);
    const restocked: Refund[] = [];
    for (const refund of due) {
      const given = {
        stock: refund.restock && !whole.stock,
        limit: refund.restoresLimit && !whole.limit,
      };
      await markGivenBack(connection, refund, given);
      if (given.stock) restocked.push(refund);
    }
    const { orderNo, saleId } = order;
    await bookMovement(
      connection,
      'return',
      restocked.map(({ refundId, items }) => ({
        orderNo,
        saleId,
        items: items ?? [],
        part: String(refundId),
      })),
    );
  });
}

async function markGivenBack(
  connection: PoolConnection,
  { refundId, orderNo, items, actor, reason }: Refund,
  given: { stock: boolean; limit: boolean },
): Promise<void> {
  await modify(
    connection,
    'UPDATE refunds SET given_back = TRUE, stock_given = ?, limit_given = ? WHERE refund_id = ?',
    [given.stock, given.limit, refundId],
  );
  for (const { sku, quantity } of items ?? []) {
    await modify(
      connection,
      `UPDATE order_items SET stock_returned = stock_returned + ?, limit_returned = limit_returned + ?
       WHERE order_no = ? AND sku = ?`,
      [given.stock ? quantity : 0, given.limit ? quantity : 0, orderNo, sku],
    );
  }
  if (!given.stock) return;
  const detail = { refundId, items, before: 'sold', after: 'returned' };
  await recordAction(connection, { actor, reason, action: 'stock_returned', subject: orderNo, detail });
}

/**
 * All that is booked as given back of the payment's order, each part once. The parts come first, so the rest
 * is given back after them.
 */
export async function readGiveBacks(pool: Pool, paymentId: number): Promise<GiveBack[]> {
  const payment = await readPayment(pool, { paymentId });
  if (!payment?.wasApplied) return [];
  const { orderNo } = payment;
  const [stored] = await readOrders(pool, [orderNo]);
  if (!stored) return [];
  const { userId } = stored.order;
  const parts = (await readRefundsOf(pool, orderNo)).flatMap((refund): GiveBack[] => {
    const { refundId, items, isLimitGiven: limit, isStockGiven: stock } = refund;
    const isGiven = items !== null && (limit || stock);
    return isGiven ? [{ orderNo, userId, part: String(refundId), items, limit, stock }] : [];
  });
  const whole = await readReturned(pool, orderNo);
  return [...parts, ...(await wholeOf(pool, stored, whole))];
}

/** The allowance goes back as a whole or in parts, the units in parts and then what they have left. */
async function wholeOf(
  pool: Pool,
  { order: { orderNo, userId, items } }: StoredOrder,
  { limit, stock }: { limit: boolean; stock: boolean },
): Promise<GiveBack[]> {
  const rest = stock ? await readRest(pool, orderNo) : [];
  const units = items.map(({ sku, quantity }) => ({ sku, quantity }));
  const whole = { orderNo, userId, part: '' };
  const isSame = limit && stock && JSON.stringify(rest) === JSON.stringify(units);
  if (isSame) return [{ ...whole, items: units, limit, stock }];
  return [
    ...(limit ? [{ ...whole, items: units, limit: true, stock: false }] : []),
    ...(stock ? [{ ...whole, items: rest, limit: false, stock: true }] : []),
  ];
}

/** What was booked as returned without a part, in the order of the order's lines. */
function readRest(reader: Executor, orderNo: string): Promise<OrderUnits[]> {
  return selectRows(
    reader,
    lineRow,
    `SELECT l.sku, l.quantity FROM stock_ledger l JOIN order_items i ON i.order_no = l.order_no AND i.sku = l.sku
     WHERE l.order_no = ? AND l.movement = 'return' AND l.part = '' ORDER BY i.position`,
    [orderNo],
  );
}

/** Puts all units of a refunded order on sale again that are not. A repeat returns the same. */
export async function returnStock(
  connection: PoolConnection,
  orderNo: string,
  decision: Decision,
): Promise<'returned' | 'not-refunded' | 'unknown'> {
  const stored = await lockOrder(connection, orderNo);
  if (!stored) return 'unknown';
  if ((await readReturned(connection, orderNo)).stock) return 'returned';
  const { status, payment } = stored.state;
  if (status !== 'paid' || payment !== 'refunded') return 'not-refunded';
  const items = await readSoldUnits(connection, orderNo);
  await modify(connection, 'UPDATE orders SET stock_returned = TRUE WHERE order_no = ?', [orderNo]);
  const payments = await selectPayments(connection, 'order_no = ?', [orderNo]);
  for (const { wasApplied, paymentId, providerPaymentId } of payments) {
    if (!wasApplied) continue;
    await makeRefundSignalDue(connection, paymentId);
    await resolveStockDecision(connection, providerPaymentId);
  }
  const detail = { items, before: 'sold', after: 'returned' };
  await recordAction(connection, { ...decision, action: 'stock_returned', subject: orderNo, detail });
  await bookMovement(connection, 'return', [{ orderNo, saleId: stored.order.saleId, items }]);
  return 'returned';
}

function readSoldUnits(connection: PoolConnection, orderNo: string): Promise<OrderUnits[]> {
  return selectRows(
    connection,
    lineRow,
    `SELECT sku, quantity - stock_returned AS quantity FROM order_items
     WHERE order_no = ? AND quantity > stock_returned ORDER BY position`,
    [orderNo],
  );
}

async function readReturned(reader: Executor, orderNo: string): Promise<{ limit: boolean; stock: boolean }> {
  const [row] = await selectRows(
    reader,
    returnedRow,
    'SELECT limit_returned, stock_returned FROM orders WHERE order_no = ?',
    [orderNo],
  );
  return { limit: row?.limit_returned ?? false, stock: row?.stock_returned ?? false };
}
