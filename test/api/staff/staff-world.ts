/** Staff's calls against an API of its own, on orders that are queued, stored or paid. */

import { signToken } from '../../../src/api/http/auth.ts';
import { acceptOrder } from '../../support/accept-order.ts';
import { buildSale } from '../../support/factories.ts';
import { buildPayment } from '../../support/payment-notices.ts';
import { everything } from '../../support/rows.ts';
import { JWT_SECRET, send, type Reply } from '../../support/shopper.ts';
import { openApi } from '../open-api.ts';

export type StaffWorld = Awaited<ReturnType<typeof openStaffWorld>>;

export async function openStaffWorld() {
  const api = await openApi();
  const { stores } = api;
  const token = await signToken(JWT_SECRET, 'olga', '1h', { roles: ['operator'] });
  let keys = 0;

  async function call(
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<Reply> {
    return send(`${api.url}/v1/admin/${path}`, method, {
      headers: { authorization: `Bearer ${token}`, ...headers },
      ...(body === undefined ? {} : { body }),
    });
  }

  return {
    api,
    stores,
    authorization: `Bearer ${token}`,
    get: (path: string) => call('GET', path),
    post: (path: string, body?: object) => call('POST', path, body),
    refund: (orderNo: string, body: object, key = `key-${(keys += 1)}`) =>
      call('POST', `orders/${orderNo}/refunds`, body, { 'Idempotency-Key': key }),

    /** Accepted, and in Redis alone. */
    async queued(saleId?: string, userId?: string) {
      const id = saleId ?? (await stores.openSale(buildSale())).saleId;
      return acceptOrder(stores, id, userId === undefined ? {} : { userId });
    },

    async stored(saleId?: string, userId?: string) {
      const order = await this.queued(saleId, userId);
      await api.store(order.orderNo);
      return order;
    },

    /** A lamp of 49.00. */
    async paid(saleId?: string) {
      const order = await this.stored(saleId);
      const payment = buildPayment(order);
      await stores.payments.record('sandbox', payment);
      await stores.orders.markPaid(order.orderNo);
      return { order, payment };
    },

    /** All rows of the sale, to see that nothing was changed. */
    rowsOf: (saleId: string) => everything(stores.pool, saleId),
  };
}
