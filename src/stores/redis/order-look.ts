/** Looks orders up for those who ask for their status: many at once, in few calls. */

import type { RedisClient } from './connection.ts';
import { epochOf, orderKeys } from './keys.ts';
import { hashOf, ORDER_FIELDS, toReservedOrder, type ReservedOrder } from './order-hash.ts';
import { lookUpOrders } from './order-scripts.ts';
import { run } from './script-call.ts';

/**
 * What Redis has of an order. Uncertain: it may be older than what was answered before, or missing although
 * the order was accepted, because Redis started again or another took over.
 */
export interface OrderLook {
  found: ReservedOrder | undefined;
  isCertain: boolean;
}

/** Orders of one call, which keeps all others from Redis for an eighth of a millisecond. */
const TOGETHER_MAX = 16;

/** Someone who waits for an order. */
interface Asker {
  orderNo: string;
  orderKey: string;
  resolve: (look: OrderLook) => void;
  reject: (error: unknown) => void;
}

/**
 * Those who ask within one turn of the event loop share a call: Redis proves once for all of them that it is
 * the server that the sale's data were made on, and the cost of a call is shared too. The call is made after
 * all of them have asked, so no answer is older than its question.
 */
export function createOrderLookUp(redis: RedisClient) {
  /** By the key of their sale. */
  const askers = new Map<string, Asker[]>();

  async function askTogether(sale: string): Promise<void> {
    const together = askers.get(sale) ?? [];
    askers.delete(sale);
    if (together.length === 0) return;
    try {
      const { epoch, orders } = await run(redis, lookUpOrders, {
        keys: { sale },
        keyList: together.map(({ orderKey }) => orderKey),
        args: {},
        repeated: FIELDS,
      });
      for (const [i, asker] of together.entries()) answer(asker, orders[i] ?? false, epoch);
    } catch (error) {
      for (const { reject } of together) reject(error);
    }
  }

  /** @throws where Redis does not answer, or has something else than an order */
  return async function lookUp(orderNo: string): Promise<OrderLook> {
    const { sale, order: orderKey } = orderKeys(orderNo);
    return new Promise((resolve, reject) => {
      const together = askers.get(sale) ?? [];
      if (together.push({ orderNo, orderKey, resolve, reject }) === 1) {
        askers.set(sale, together);
        setImmediate(() => void askTogether(sale));
      }
      if (together.length === TOGETHER_MAX) void askTogether(sale);
    });
  };
}

const FIELDS = ORDER_FIELDS.map((field) => ({ field }));
const [SALE_ID, EPOCH] = [ORDER_FIELDS.indexOf('sale_id'), ORDER_FIELDS.indexOf('epoch')];

/**
 * @param values false: what Redis has is no order
 * @param epoch of the sale; undefined: the server is not the one that its data were made on
 */
function answer(
  { orderNo, resolve, reject }: Asker,
  values: readonly unknown[] | false,
  epoch?: number,
): void {
  try {
    if (!values) throw new SyntaxError(`what Redis has is no order: ${orderNo}`);
    // A hold that does not say its epoch is of that of its orderNo.
    const holdEpoch = values[EPOCH] ? Number(values[EPOCH]) : epochOf(orderNo);
    const found = values[SALE_ID] ? toReservedOrder(orderNo, hashOf(values)) : undefined;
    resolve({ found, isCertain: holdEpoch === epoch });
  } catch (error) {
    reject(error);
  }
}
