/** Opens the sale of a trial, and reads what the stores have recorded of it at the end. */

import { z } from 'zod';
import { readRedisSale } from '../src/audit/reads.redis.ts';
import { selectRows } from '../src/mysql/connection.ts';
import { ORDER_STATUSES, PAYMENT_STATES } from '../src/orders/order.ts';
import type { Sale } from '../src/sales/sale.ts';
import { endsOf, type Recorded } from './history.ts';
import type { System } from './system.ts';

const HOUR_MS = 60 * 60_000;
/** Long enough to pay in spite of a fault, short enough that many run out of it within the trial. */
export const PAYMENT_WINDOW_MS = 40_000;

/** The shop is told of what is unpaid this long before its deadline. */
const EXPIRING_NOTICE_MS = 15_000;

/** Minor units. */
export const LAMP_PRICE = 4_900;

/** In mid-storm. */
export const CALLED_OFF_SKU = 'poster';

export async function openSale(
  { stores: { sales, saleStock } }: Pick<System, 'stores'>,
  saleId: string,
): Promise<void> {
  const sale: Sale = {
    saleId,
    name: 'Trial',
    currency: 'EUR',
    opensAtMs: Date.now() - 1_000,
    closesAtMs: Date.now() + 12 * HOUR_MS,
    paused: false,
    paymentWindowMs: PAYMENT_WINDOW_MS,
    expiringNoticeMs: EXPIRING_NOTICE_MS,
    refundRestoresLimit: true,
    limitPerUser: null,
    maxUnpaidHolds: null,
    addressPurchasesPerMinute: null,
    ticketRequired: false,
    skus: [
      { sku: 'lamp', name: 'Lamp', unitPrice: LAMP_PRICE, total: 1_000_000, limitPerUser: null },
      { sku: 'rug', name: 'Rug', unitPrice: 19_900, total: 60, limitPerUser: null },
      { sku: 'vase', name: 'Vase', unitPrice: 2_900, total: 2_000, limitPerUser: 2 },
      { sku: CALLED_OFF_SKU, name: 'Poster', unitPrice: 1_450, total: 100_000, limitPerUser: null },
      { sku: 'card', name: 'A card', unitPrice: 0, total: 100_000, limitPerUser: null },
    ],
  };
  await sales.create(sale);
  await sales.warmUp(saleId, saleStock);
}

const eventRow = z.object({
  order_no: z.string(),
  version: z.int(),
  status: z.enum(ORDER_STATUSES),
  payment: z.enum(PAYMENT_STATES),
  refunded: z.int(),
});

/** Every state that MySQL ever recorded, and every hold that both stores know. */
export async function readRecorded({ stores }: Pick<System, 'stores'>, saleId: string): Promise<Recorded> {
  const events = await selectRows(
    stores.pool,
    eventRow,
    'SELECT order_no, version, status, payment, refunded FROM order_events WHERE order_no LIKE ?',
    [`${saleId}-%`],
  );
  const states = new Map<string, Map<number, z.infer<typeof eventRow>>>();
  for (const event of events) {
    const ofOrder = states.get(event.order_no) ?? new Map<number, z.infer<typeof eventRow>>();
    states.set(event.order_no, ofOrder.set(event.version, event));
  }
  return { states, holds: await readHolds(stores, saleId) };
}

const itemRow = z.object({
  order_no: z.string(),
  reserved_at: z.date(),
  sku: z.string(),
  quantity: z.int(),
});

/** What Redis holds or held as far as it knows, and what MySQL has: a Redis made anew has less. */
async function readHolds(stores: System['stores'], saleId: string): Promise<Recorded['holds']> {
  const rows = await selectRows(
    stores.pool,
    itemRow,
    `SELECT o.order_no, o.reserved_at, i.sku, i.quantity FROM orders o JOIN order_items i ON i.order_no = o.order_no
     WHERE o.sale_id = ?`,
    [saleId],
  );
  const holds = new Map<string, { reservedAtMs: number; items: { sku: string; quantity: number }[] }>();
  for (const { order_no: orderNo, reserved_at: reservedAt, sku, quantity } of rows) {
    const hold = holds.get(orderNo) ?? { reservedAtMs: reservedAt.getTime(), items: [] };
    hold.items.push({ sku, quantity });
    holds.set(orderNo, hold);
  }
  const inRedis = await readRedisSale(stores.redis, saleId);
  const missing = inRedis.holds.filter(({ orderNo }) => !holds.has(orderNo));
  const orders = await Promise.all(missing.map(({ orderNo }) => stores.reservations.readOrder(orderNo)));
  for (const found of orders) if (found) holds.set(found.order.orderNo, found.order);
  return holds;
}

/** How often each order ended; once is right. */
export function countFinals({ states }: Recorded): Map<string, number> {
  return new Map([...states].map(([orderNo, ofOrder]) => [orderNo, endsOf(ofOrder).length]));
}
