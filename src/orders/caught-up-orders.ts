/**
 * Orders of a MySQL that may have lost commits. One that has lost a raise of stock, or a new SKU, refuses
 * what Redis has sold of it. So before such a refusal counts MySQL takes over what Redis has decided of the
 * sale, and the order is stored once more. One that has lost an order abandons it above what is shown of it.
 */

import assert from 'node:assert/strict';
import type { Logger } from 'pino';
import type { MysqlStores } from '../stores/bound.ts';
import type { RedisStores } from '../stores/bound.ts';
import { withShown, type Order } from './content.ts';
import type { FailureReason } from './order.ts';
import type { Reservations } from './reservations.redis.ts';

/** Of what the sale has, not of the order. */
const OF_THE_SALE: ReadonlySet<FailureReason> = new Set(['stock_exhausted', 'unknown_sku']);

interface Decided {
  reservations: Pick<Reservations, 'readOrders'>;
  saleStock: Pick<RedisStores['saleStock'], 'readDecided'>;
  saleChanges: Pick<MysqlStores['saleChanges'], 'catchUp'>;
  log: Logger;
}

/**
 * Its `storeOrders` and `storeOrder` also throw while Redis is away, where MySQL alone would refuse; so does
 * `abandon`.
 */
export function createCaughtUpOrders(
  orders: MysqlStores['orders'],
  { reservations, saleStock, saleChanges, log }: Decided,
): MysqlStores['orders'] {
  /** Nothing is taken over of a sale that Redis does not have, or of another epoch: it is made again. */
  async function catchUp(saleId: string): Promise<void> {
    const decided = await saleStock.readDecided(saleId);
    if (decided && (await saleChanges.catchUp(saleId, decided, { epoch: decided.epoch })))
      log.error({ saleId }, 'MySQL had lost changes of a sale; they were taken over from Redis');
  }

  const storeOrders: MysqlStores['orders']['storeOrders'] = async (batch, presence) => {
    const outcomes = await orders.storeOrders(batch, presence);
    const doubtful = batch.filter(({ orderNo }) => {
      const outcome = outcomes.get(orderNo);
      return outcome?.kind === 'refused' && OF_THE_SALE.has(outcome.reason);
    });
    if (doubtful.length === 0) return outcomes;
    for (const saleId of new Set(doubtful.map((order) => order.saleId))) await catchUp(saleId);
    // Also where nothing was taken over just now: another process may have done so since the refusal.
    return new Map([...outcomes, ...(await orders.storeOrders(doubtful, presence))]);
  };

  return {
    ...orders,
    storeOrders,
    async storeOrder(order: Order, presence) {
      const outcome = (await storeOrders([order], presence)).get(order.orderNo);
      assert(outcome, `order ${order.orderNo} was stored without an outcome`);
      return outcome;
    },
    async abandon(order, reason) {
      const [reserved] = await reservations.readOrders([order.orderNo]);
      return orders.abandon(reserved ? withShown(order, reserved.state) : order, reason);
    },
  };
}
