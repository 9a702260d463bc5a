/** Orders in the real stores, the activities to run on them, and reads of what the stores have afterwards. */

import { ulid } from 'ulidx';
import { expect } from 'vitest';
import { z } from 'zod';
import { createActivities, type Activities } from '../../src/activities/index.ts';
import { selectRows } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import type { OrderState } from '../../src/orders/order.ts';
import type { PaymentProvider } from '../../src/providers/provider.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores } from '../support/stores.ts';

export const AWAITING = {
  status: 'awaiting_payment',
  version: 1,
  payment: 'none',
  reason: null,
} as const satisfies OrderState;
export const HELD = { mysql: { held: 1, sold: 0 }, redis: { available: 9, held: 1, sold: 0 } };

/** Fails a test whose step calls the provider although it must not. */
export const noProvider: PaymentProvider = {
  name: 'none',
  priceFault: () => undefined,
  refundFault: () => undefined,
  openSession: () => Promise.reject(new Error('no provider here')),
  listPayments: () => {
    throw new Error('away');
  },
  voidSession: () => Promise.reject(new Error('no provider here')),
  refund: () => Promise.reject(new Error('no provider here')),
  listReversals: () => Promise.reject(new Error('no provider here')),
  verifyNotice: () => {
    throw new Error('no provider here');
  },
};

/** Call it in beforeAll, with whose tests its stores close. */
export async function openStage() {
  const stores = await openTestStores();

  const openSteps = (provider = noProvider): Activities => createActivities({ ...stores, provider });

  /** One lamp held in Redis; its slot in the engine is taken. */
  async function reserveOrder(): Promise<Order> {
    const { saleId } = await stores.openSale(buildSale());
    const reserved = await stores.reservations.reserve(
      buildReserveRequest({ saleId, idempotencyKey: ulid() }),
    );
    if (reserved.kind !== 'reserved') throw new Error(`not reserved: ${reserved.kind}`);
    const held = await stores.reservations.readOrder(reserved.orderNo);
    if (!held) throw new Error(`no hold of ${reserved.orderNo}`);
    await stores.budget.acquire([reserved.orderNo]);
    return held.order;
  }

  async function storeOrder(steps: Activities): Promise<Order> {
    const order = await reserveOrder();
    await steps.persistOrder({ order });
    await stores.budget.acquire([order.orderNo]);
    return order;
  }

  /** As both stores have the lamps, and whether the order still takes a slot in the engine. */
  async function look({ saleId, orderNo }: Order) {
    const [mysql] = await stores.sales.readStock(saleId);
    const sale = await stores.saleStock.read(saleId);
    const lamp = sale?.skus[0];
    return {
      stored: (await stores.orders.read(orderNo))?.state,
      projected: (await stores.reservations.readOrder(orderNo))?.state,
      mysql: { held: mysql?.held, sold: mysql?.sold },
      redis: { available: lamp?.available, held: lamp?.held, sold: lamp?.sold },
      slotsTaken: stores.config.ENGINE_BUDGET - (await stores.budget.room()),
    };
  }

  async function readColumn(table: 'payments' | 'payment_sessions' | 'parked', key: string, value: string) {
    const column = table === 'parked' ? 'reason' : 'status';
    const rows = await selectRows(
      stores.pool,
      z.object({ answer: z.string() }),
      `SELECT ${column} AS answer FROM ${table} WHERE ${key} = ?`,
      [value],
    );
    return rows.map(({ answer }) => answer);
  }
  const paymentStatuses = (order: Order) => readColumn('payments', 'order_no', order.orderNo);
  const parkedReasons = (orderNo: string) => readColumn('parked', 'reference', orderNo);
  const sessionStatuses = (order: Order) => readColumn('payment_sessions', 'order_no', order.orderNo);

  /** Takes the step twice and expects the stores to be the same after each. */
  async function twice<T>(order: Order, take: () => Promise<T>) {
    const first = await take();
    const world = await look(order);
    await stores.budget.acquire([order.orderNo]);
    const second = await take();
    expect(await look(order)).toEqual(world);
    return { first, second, world };
  }

  return {
    stores,
    openSteps,
    reserveOrder,
    storeOrder,
    look,
    twice,
    paymentStatuses,
    sessionStatuses,
    parkedReasons,
  };
}

export type Stage = Awaited<ReturnType<typeof openStage>>;
