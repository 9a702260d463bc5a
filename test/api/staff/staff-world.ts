/** Staff's calls against an API of its own, on orders that are queued, stored or paid. */

import { ulid } from 'ulidx';
import { rebuildSale } from '../../../src/reconcile/rebuild-sale.ts';
import { saleKeys } from '../../../src/redis/keys.ts';
import { acceptOrder } from '../../support/accept-order.ts';
import { buildSale } from '../../support/factories.ts';
import { buildPayment } from '../../support/payment-notices.ts';
import { everything } from '../../support/rows.ts';
import { openShop } from '../../support/shop.ts';
import type { Reply } from '../../support/shopper.ts';
import { silent } from '../../support/stores.ts';
import { openApi } from '../open-api.ts';

export type StaffWorld = Awaited<ReturnType<typeof openStaffWorld>>;

export async function openStaffWorld() {
  const api = await openApi();
  const { stores } = api;
  const operator = { role: 'operator', key: null } as const;
  const { asStaff } = openShop(api);
  const callsAt = (url: string) => {
    const shop = openShop({ ...api, url });
    return {
      get: (path: string): Promise<Reply> => shop.asStaff('GET', path, undefined, operator),
      post: (path: string, body?: object): Promise<Reply> => shop.asStaff('POST', path, body, operator),
    };
  };

  return {
    api,
    stores,
    ...callsAt(api.url),
    /** The same staff's calls to another API. */
    callsAt,
    refund: (orderNo: string, body: object, key: string = ulid()): Promise<Reply> =>
      asStaff('POST', `orders/${orderNo}/refunds`, body, { ...operator, key }),

    /** Accepted, and in Redis alone. */
    async queued(saleId?: string, userId?: string) {
      const id = saleId ?? (await stores.openSale(buildSale())).saleId;
      return acceptOrder(stores, id, userId === undefined ? {} : { userId });
    },

    /** Accepted, and its sale was made again before it was stored: its hold is of an older epoch. */
    async rebuilt() {
      const order = await this.queued();
      await stores.redis.xtrim(saleKeys({ saleId: order.saleId, shard: 0 }).outbox, 'MAXLEN', 0);
      await rebuildSale({ ...stores, log: silent }, order.saleId, { cause: 'lost' });
      return order;
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
      return { order, payment };
    },

    /** All rows of the sale, to see that nothing was changed. */
    rowsOf: (saleId: string) => everything(stores.pool, saleId),
  };
}
