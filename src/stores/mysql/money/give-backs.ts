/** Books what refunds give back to their sale, and reads what of it Redis is to have. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import type { GiveBack, OrderUnits } from '../../../domain/order.ts';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../connection.ts';
import { recordAction } from '../rows/audit-log.ts';
import { lockOrder, readOrders, type StoredOrder } from '../rows/order-rows.ts';
import { resolveStockDecision } from '../rows/parked.ts';
import { bookMovement, type Booking } from '../rows/stock-ledger.ts';
import { lockPaymentAndOrder, makeRefundSignalDue, readPayment, selectPayments } from './payment.ts';
import {
  hasGiveBack,
  hasRefundOfUnits,
  insertGiveBack,
  IS_GIVE_BACK_DUE,
  partOf,
  selectRefunds,
} from './refund.ts';

const ruleRow = z.object({ restores: z.coerce.boolean() });
const lineRow = z.object({ sku: z.string(), quantity: z.int() });
const leftRow = z.object({ sku: z.string(), stock: z.int(), limit: z.int() });

/** What a refund gives back: units to the stock, or to their user's limit. */
interface Given {
  stock: boolean;
  limit: boolean;
}

/**
 * Books stock and limit of the payment's refunds that have ended. A repeat books nothing more, and no line
 * gives back more than it has left.
 */
export function bookGiveBacks(pool: Pool, paymentId: number): Promise<void> {
  return inTransaction(pool, async (connection) => {
    const locked = await lockPaymentAndOrder(connection, paymentId);
    if (!locked?.stored) return;
    const { orderNo, saleId } = locked.stored.order;
    const restocked: Booking[] = [];
    const condition = `payment_id = ? AND ${IS_GIVE_BACK_DUE} ORDER BY refund_id`;
    for (const refund of await selectRefunds(connection, condition, [paymentId])) {
      const { refundId, restock, restoresLimit, actor, reason } = refund;
      const items = refund.items ?? [];
      const left = new Map((await readLeft(connection, orderNo)).map((line) => [line.sku, line]));
      const has = (what: keyof Given): boolean =>
        items.every(({ sku, quantity }) => quantity <= (left.get(sku)?.[what] ?? 0));
      const given = { stock: restock && has('stock'), limit: restoresLimit && has('limit') };
      await modify(
        connection,
        'UPDATE refunds SET given_back = TRUE, stock_given = ?, limit_given = ? WHERE refund_id = ?',
        [given.stock, given.limit, refundId],
      );
      await markLines(connection, orderNo, items, given);
      if (!given.stock) continue;
      const detail = { refundId, items, before: 'sold', after: 'returned' };
      await recordAction(connection, { actor, reason, action: 'stock_returned', subject: orderNo, detail });
      restocked.push({ orderNo, saleId, items, part: partOf(refund) });
    }
    await bookMovement(connection, 'return', restocked);
  });
}

async function markLines(
  connection: PoolConnection,
  orderNo: string,
  items: readonly OrderUnits[],
  given: Given,
): Promise<void> {
  for (const { sku, quantity } of items) {
    await modify(
      connection,
      `UPDATE order_items SET stock_returned = stock_returned + ?, limit_returned = limit_returned + ?
       WHERE order_no = ? AND sku = ?`,
      [given.stock ? quantity : 0, given.limit ? quantity : 0, orderNo, sku],
    );
  }
}

/**
 * What is booked as given back, each part once. Empty when the payment never paid for its order, or neither
 * the sale's rule nor an operator gives anything back.
 */
export async function readGiveBacks(pool: Pool, paymentId: number): Promise<GiveBack[]> {
  const payment = await readPayment(pool, { paymentId });
  if (!payment?.wasApplied) return [];
  const { orderNo } = payment;
  const [stored] = await readOrders(pool, [orderNo]);
  if (!stored) return [];
  const { userId } = stored.order;
  const condition = 'payment_id = ? AND (limit_given OR stock_given) ORDER BY refund_id';
  return (await selectRefunds(pool, condition, [paymentId])).map(
    ({ items, isLimitGiven: limit, isStockGiven: stock, ...refund }) => ({
      orderNo,
      userId,
      part: partOf(refund),
      items: items ?? [],
      limit,
      stock,
    }),
  );
}

/**
 * An operator puts all units of a refunded order on sale again that are not. A repeat returns the same.
 */
export function returnStock(
  pool: Pool,
  orderNo: string,
  actor: string,
  why: string | null = null,
): Promise<'returned' | 'not-refunded' | 'unknown'> {
  const decision = { actor, reason: why };
  return inTransaction(pool, async (connection) => {
    const stored = await lockOrder(connection, orderNo);
    if (!stored) return 'unknown';
    if (await hasGiveBack(connection, 'return', orderNo)) return 'returned';
    const { status, payment } = stored.state;
    if (status !== 'paid' || payment !== 'refunded') return 'not-refunded';
    const own = (await selectPayments(connection, 'order_no = ?', [orderNo])).find((one) => one.wasApplied);
    assert(own, `order ${orderNo} was paid`);
    const { paymentId, providerPaymentId } = own;
    const items = await readUnits(connection, orderNo, 'stock_returned');
    await insertGiveBack(connection, 'return', { orderNo, paymentId, items, ...decision });
    await markLines(connection, orderNo, items, { stock: true, limit: false });
    await makeRefundSignalDue(connection, paymentId);
    await resolveStockDecision(connection, providerPaymentId);
    const detail = { items, before: 'sold', after: 'returned' };
    await recordAction(connection, { ...decision, action: 'stock_returned', subject: orderNo, detail });
    const { saleId } = stored.order;
    await bookMovement(connection, 'return', [{ orderNo, saleId, items, part: 'return' }]);
    return 'returned';
  });
}

/**
 * Gives the user's limit back where the sale's rule says so, so that the user may buy as much again. Where
 * staff refunded units of the order, they have decided about each. A repeat changes nothing.
 */
export async function returnLimit(
  connection: PoolConnection,
  paymentId: number,
  { order }: StoredOrder,
): Promise<void> {
  const { orderNo, saleId } = order;
  if (await hasRefundOfUnits(connection, paymentId)) return;
  if (await hasGiveBack(connection, 'rule', orderNo)) return;
  if (!(await readLimitRule(connection, saleId))) return;
  const items = await readUnits(connection, orderNo, 'limit_returned');
  if (items.length === 0) return;
  await insertGiveBack(connection, 'rule', { orderNo, paymentId, items, actor: 'rules', reason: null });
  await markLines(connection, orderNo, items, { stock: false, limit: true });
}

/** Whether a refund of the sale gives the user's limit back, where staff do not say. */
export async function readLimitRule(connection: PoolConnection, saleId: string): Promise<boolean> {
  const sql = 'SELECT refund_restores_limit AS restores FROM sales WHERE sale_id = ?';
  return (await selectRows(connection, ruleRow, sql, [saleId]))[0]?.restores ?? false;
}

/** The units of the order that are not counted as returned in this way. */
function readUnits(
  connection: PoolConnection,
  orderNo: string,
  returned: 'stock_returned' | 'limit_returned',
): Promise<OrderUnits[]> {
  return selectRows(
    connection,
    lineRow,
    `SELECT sku, quantity - ${returned} AS quantity FROM order_items
     WHERE order_no = ? AND quantity > ${returned} ORDER BY position`,
    [orderNo],
  );
}

function readLeft(connection: PoolConnection, orderNo: string): Promise<z.infer<typeof leftRow>[]> {
  return selectRows(
    connection,
    leftRow,
    `SELECT sku, quantity - stock_returned AS stock, quantity - limit_returned AS \`limit\` FROM order_items
     WHERE order_no = ?`,
    [orderNo],
  );
}
