/**
 * The driver of a shop in tests: shoppers and staff act over HTTP, and the provider's book tells where the
 * money is. A purchase, a payment and a cancel wait until the service has carried them out.
 */

import assert from 'node:assert/strict';
import { ulid } from 'ulidx';
import type { SandboxConsole } from '../../sandbox/console.ts';
import { signToken } from '../../src/api/http/auth.ts';
import { readPaymentId } from './rows.ts';
import {
  JWT_SECRET,
  openShopper,
  pressPay,
  send,
  sessionOf,
  type OrderView,
  type Reply,
  type Shopper,
} from './shopper.ts';
import type { TestStores } from './stores.ts';
import { waitFor } from './wait.ts';

export interface Bought {
  shopper: Shopper;
  orderNo: string;
}

interface Cart {
  /** One lamp unless said otherwise. */
  sku?: string;
  quantity?: number;
  /** By default one that no other test knows. */
  shopper?: Shopper;
}

interface StaffCall {
  /** By default each call has a key of its own; with null it has none. */
  key?: string | null;
  role?: 'admin' | 'operator';
}

/** What the provider collected in one payment, and how much of it went back. */
type Money = [collected: number, returned: number];

type Numbered = Pick<Bought, 'orderNo'>;

export type Shop = ReturnType<typeof openShop>;

/** Of API, worker and sandbox that run already. */
export function openShop({
  url,
  stores,
  providerConsole,
}: {
  url: string;
  stores: TestStores;
  providerConsole: SandboxConsole;
}) {
  const shop = {
    /** A shopper of this name with a valid token; without a name, one that no other test knows. */
    shopper: (userId?: string): Promise<Shopper> => openShopper(url, userId),

    /** Buys, and waits until the order can be paid. */
    async buy(saleId: string, { sku, quantity, shopper }: Cart = {}): Promise<Bought> {
      const buyer = shopper ?? (await shop.shopper());
      const orderNo = await buyer.buy(saleId, sku, quantity);
      await buyer.awaitStatus(orderNo, 'awaiting_payment');
      return { shopper: buyer, orderNo };
    },

    /** As soon as the order can be paid. @returns the address of the provider's page */
    async openPage({ shopper, orderNo }: Bought): Promise<string> {
      await shopper.awaitStatus(orderNo, 'awaiting_payment');
      return sessionOf(await shopper.pay(orderNo)).url;
    },

    async pay(bought: Bought): Promise<OrderView> {
      await pressPay(await shop.openPage(bought));
      return bought.shopper.awaitStatus(bought.orderNo, 'paid');
    },

    async buyAndPay(saleId: string, cart?: Cart): Promise<Bought> {
      const bought = await shop.buy(saleId, cart);
      await shop.pay(bought);
      return bought;
    },

    async cancel({ shopper, orderNo }: Bought): Promise<OrderView> {
      await shopper.cancel(orderNo);
      return shopper.awaitStatus(orderNo, 'cancelled');
    },

    async buyAndCancel(saleId: string, cart?: Cart): Promise<Bought> {
      const bought = await shop.buy(saleId, cart);
      await shop.cancel(bought);
      return bought;
    },

    /** A call of the back office; `path` follows /v1/admin/. */
    async asStaff(
      method: string,
      path: string,
      body?: object,
      { key = ulid(), role = 'admin' }: StaffCall = {},
    ): Promise<Reply> {
      const token = await signToken(JWT_SECRET, 'olga', '1h', { roles: [role] });
      const headers = {
        authorization: `Bearer ${token}`,
        ...(key !== null && { 'idempotency-key': key }),
      };
      return send(`${url}/v1/admin/${path}`, method, { headers, ...(body !== undefined && { body }) });
    },

    /** Staff ask for a refund: of the whole order, or as `body` says. */
    async refund({ orderNo }: Numbered, body: object = {}): Promise<void> {
      const reply = await shop.asStaff('POST', `orders/${orderNo}/refunds`, body);
      assert.equal(reply.status, 202, JSON.stringify(reply.body));
    },

    /** Waits until the shopper is shown this state of the order's money. */
    awaitPayment({ shopper, orderNo }: Bought, payment: OrderView['payment']): Promise<OrderView> {
      return waitFor(`the money of ${orderNo} to be ${payment}`, async () => {
        const order = await shopper.readOrder(orderNo);
        return order.payment === payment && order;
      });
    },

    /** Waits until the shopper is shown that this amount was refunded. */
    awaitRefunded({ shopper, orderNo }: Bought, amount: number): Promise<OrderView> {
      return waitFor(`${amount} of ${orderNo} to be refunded`, async () => {
        const order = await shopper.readOrder(orderNo);
        return order.refunded === amount && order;
      });
    },

    /** By the provider's book, in the order in which it collected. */
    async moneyOf({ orderNo }: Numbered): Promise<Money[]> {
      const payments = await providerConsole.listPayments(orderNo);
      return payments.map(({ amount, returned }) => [amount, returned]);
    },

    /** Waits until the provider's book says so of the order. */
    async awaitMoney(order: Numbered, money: readonly Money[]): Promise<void> {
      const wanted = JSON.stringify(money);
      await waitFor(`${wanted} in the provider's book`, async () => {
        return JSON.stringify(await shop.moneyOf(order)) === wanted;
      });
    },

    /** Waits until all that the provider collected for the order went back. */
    async awaitReturned(order: Numbered): Promise<void> {
      await waitFor(`the money of ${order.orderNo} to go back`, async () => {
        const money = await shop.moneyOf(order);
        return money.length > 0 && money.every(([collected, returned]) => collected === returned);
      });
    },

    /** The provider's id of the order's first payment. */
    async providerPaymentOf({ orderNo }: Numbered): Promise<string> {
      const [payment] = await providerConsole.listPayments(orderNo);
      assert(payment, `a payment for ${orderNo}`);
      return payment.id;
    },

    /** The number that the order's only payment has here. */
    paymentIdOf: ({ orderNo }: Numbered): Promise<number> => readPaymentId(stores.pool, orderNo),

    /** Undefined where MySQL does not know the order. */
    async stateOf({ orderNo }: Numbered) {
      return (await stores.orders.read(orderNo))?.state;
    },
  };
  return shop;
}
