/** Orders whose money came, and reads of what MySQL has of both. */

import type { ProviderPayment } from '../../src/money/payment.ts';
import { modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import type { Sale } from '../../src/sales/sale.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { buildNotice, buildPayment } from '../support/payment-notices.ts';
import { select, selectOne } from '../support/rows.ts';
import type { TestStores } from '../support/stores.ts';

export interface Paid {
  order: Order;
  payment: ProviderPayment;
}

export type MoneyWorld = ReturnType<typeof createMoneyWorld>;

export function createMoneyWorld(stores: TestStores) {
  const { pool } = stores;

  async function newOrder(sale: Partial<Sale> = {}): Promise<Order> {
    const { saleId } = await stores.openSale(buildSale(sale));
    return buildOrder({ saleId });
  }

  async function storedOrder(sale: Partial<Sale> = {}): Promise<Order> {
    const order = await newOrder(sale);
    await stores.orders.storeOrder(order, 'started');
    return order;
  }

  const receive = (payment: ProviderPayment) =>
    stores.payments.receive('sandbox', buildNotice(payment), '{}');

  async function withMoney(order: Order, overrides: Partial<ProviderPayment> = {}): Promise<Paid> {
    const payment = buildPayment(order, overrides);
    await receive(payment);
    return { order, payment };
  }

  const rowOf = ({ providerPaymentId }: ProviderPayment) =>
    selectOne(
      pool,
      `SELECT payment_id, status, refund_reason, applied_at IS NOT NULL AS applied, engine_due_at <= NOW(3) AS due
       FROM payments WHERE provider = 'sandbox' AND provider_payment_id = ?`,
      [providerPaymentId],
    );

  return {
    newOrder,
    storedOrder,
    receive,
    withMoney,
    rowOf,

    paidOrder: async (sale: Partial<Sale> = {}): Promise<Paid> => withMoney(await storedOrder(sale)),

    idOf: async (payment: ProviderPayment): Promise<number> => Number((await rowOf(payment))['payment_id']),

    statusOf: async (payment: ProviderPayment): Promise<unknown> => (await rowOf(payment))['status'],

    stateOf: async ({ orderNo }: Order) => (await stores.orders.read(orderNo))?.state,

    /**
     * Why it is shown to an operator now; undefined when it is
     * not. Kind `refund`: because its refund keeps failing.
     */
    async parkedReason(
      { providerPaymentId }: ProviderPayment,
      kind: 'payment' | 'refund' = 'payment',
    ): Promise<string | undefined> {
      const [parked] = await select(
        pool,
        `SELECT reason FROM parked WHERE kind = ? AND reference = ? AND resolved_at IS NULL`,
        [kind, providerPaymentId],
      );
      return parked && String(parked['reason']);
    },

    /** As if the relay had completed the claims of all that was due. */
    settleDue: () => modify(pool, 'UPDATE payments SET engine_due_at = NULL'),

    /** What came back as a whole: the limit by the sale's rule, the stock by an operator. */
    returnedOf: ({ orderNo }: Order) =>
      selectOne(
        pool,
        `SELECT COUNT(IF(kind = 'rule', 1, NULL)) AS limit_returned,
           COUNT(IF(kind = 'return', 1, NULL)) AS stock_returned FROM refunds WHERE order_no = ?`,
        [orderNo],
      ),

    /** Each version of the order with its status and payment state. */
    async historyOf({ orderNo }: Order): Promise<string[]> {
      const events = await select(
        pool,
        'SELECT version, status, payment FROM order_events WHERE order_no = ? ORDER BY version',
        [orderNo],
      );
      return events.map(({ version, status, payment }) => [version, status, payment].map(String).join(' '));
    },

    auditOf: (subject: string) =>
      select(pool, 'SELECT actor, action FROM audit_log WHERE subject = ? ORDER BY entry_id', [subject]),
  };
}
