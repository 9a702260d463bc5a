/** Settles the stock of an order that has ended in MySQL, and decides what a missing hold means. */

import { parseOrderNo, type OrderState } from '../domain/order.ts';
import type { Stores } from '../stores/open.ts';

/**
 * Turns the hold into a sale or gives it back. Idempotent. A hold that is missing without a reason is parked
 * for an operator.
 * @param state final
 * @returns later: the sale's data are being made again, so the call is to be repeated
 * @throws when a store is away
 */
export async function settleStock(
  { reservations, orders, sales }: Stores,
  orderNo: string,
  { status }: Pick<OrderState, 'status'>,
): Promise<'settled' | 'later'> {
  const hold = await (status === 'paid' ? reservations.confirm(orderNo) : reservations.release(orderNo));
  if (hold === 'lost') await orders.parkLostHold(orderNo);
  if (hold !== 'sale-absent') return 'settled';
  // A sale that is settled and long over is not made again: there is no stock left to settle.
  return (await sales.isWatched(parseOrderNo(orderNo)?.saleId ?? '')) ? 'later' : 'settled';
}

/**
 * For a page of orders: asks MySQL once a sale. While the sale of a peak is made again, two pages of ended
 * orders at a time would otherwise fill the queue for MySQL's connections, which the rebuild waits in too.
 * @param ended their states are final
 */
export function settleStocks(
  deps: Stores,
  ended: readonly { orderNo: string; state: Pick<OrderState, 'status'> }[],
): Promise<PromiseSettledResult<'settled' | 'later'>[]> {
  const answers = new Map<string, Promise<boolean>>();
  function isWatched(saleId: string): Promise<boolean> {
    const answer = answers.get(saleId) ?? deps.sales.isWatched(saleId);
    answers.set(saleId, answer);
    return answer;
  }
  const once = { ...deps, sales: { ...deps.sales, isWatched } };
  return Promise.allSettled(ended.map(({ orderNo, state }) => settleStock(once, orderNo, state)));
}
