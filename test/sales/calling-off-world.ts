/** Sales that are called off, in the stores, and their orders. */

import { MockActivityEnvironment } from '@temporalio/testing';
import { createCallOffActivities, type CallOffPage } from '../../src/activities/call-off.ts';
import type { Order } from '../../src/orders/content.ts';
import type { CallOffJob } from '../../src/sales/calling-off.sql.ts';
import type { Stores } from '../../src/stores/open.ts';
import { createMoneyWorld } from '../money/money-world.ts';
import { buildOrder, buildReserveRequest, buildSale } from '../support/factories.ts';
import { selectOne } from '../support/rows.ts';
import { openTestStores } from '../support/stores.ts';

export const BY = { actor: 'grace', reason: 'It rains' };

export type CallingOffWorld = Awaited<ReturnType<typeof openCallingOffWorld>>;

export async function openCallingOffWorld() {
  const stores = await openTestStores();
  const money = createMoneyWorld(stores);
  const { callingOffs, orders } = stores;

  async function storeOrder(
    saleId: string,
    overrides: Partial<Order> = {},
    presence: Parameters<typeof orders.storeOrder>[1] = 'due',
  ): Promise<Order> {
    const order = buildOrder({ saleId, ...overrides });
    await orders.storeOrder(order, presence);
    return order;
  }

  return {
    stores,
    money,
    close: stores.close,
    storeOrder,
    openSale: async (): Promise<string> => (await stores.openSale(buildSale())).saleId,

    async callOff(saleId: string, { sku = '', restock = false } = {}): Promise<CallOffJob> {
      const outcome = await callingOffs.callOff({ saleId, sku }, restock, BY);
      if (!('job' in outcome)) throw new Error(outcome.kind);
      return outcome.job;
    },

    /** Paid, of these lines and charges. */
    async paidOrder(saleId: string, overrides: Partial<Order> = {}): Promise<Order> {
      const order = await storeOrder(saleId, overrides, 'started');
      await money.withMoney(order);
      return order;
    },

    /** One page of a pass of the job. `parts`: what it has instead of the stores. */
    passOn(
      { jobId }: CallOffJob,
      phase: 'open' | 'paid',
      after = '',
      parts: Partial<Stores> = {},
    ): Promise<CallOffPage> {
      const { callOffPage } = createCallOffActivities({ ...stores, ...parts });
      return new MockActivityEnvironment().run(callOffPage, { jobId, cursor: { phase, after } });
    },

    /** Asks the order's money back. */
    ask: async (order: Order, job: CallOffJob) =>
      (await callingOffs.requestCalledOff(order.orderNo, job)).outcome,

    refundsOf: async ({ orderNo }: Order) =>
      (await stores.refunds.readRefundsOf(orderNo)).map(({ amount, items, charges, restock, status }) => ({
        amount,
        items,
        charges,
        restock,
        status,
      })),

    async paymentOf({ orderNo }: Order): Promise<{ paymentId: number; providerPaymentId: string }> {
      const sql = 'SELECT payment_id, provider_payment_id FROM payments WHERE order_no = ?';
      const row = await selectOne(stores.pool, sql, [orderNo]);
      return { paymentId: Number(row['payment_id']), providerPaymentId: String(row['provider_payment_id']) };
    },

    async isOpen({ jobId }: CallOffJob): Promise<boolean> {
      const open = await callingOffs.listOpenJobs(undefined, 1_000);
      return open.some((job) => job.jobId === jobId);
    },

    reserveMug: (saleId: string) =>
      stores.reservations.reserve(buildReserveRequest({ saleId, items: [{ sku: 'mug', quantity: 1 }] })),
  };
}

export const line = (sku: string, quantity: number) => ({
  sku,
  quantity,
  unitPrice: sku === 'lamp' ? 4_900 : 1_450,
});
