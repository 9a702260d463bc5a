/** A shopper's own orders: those that a refusal names. */

import { isFinal } from '../../orders/order.ts';
import type { OpenOrderReply } from '../http/replies.ts';
import { type Finder, viewOrder } from './find-order.ts';

/**
 * Those of these orders that their projections still show as open: what their shopper needs to go and pay.
 * The list in Redis may have one that has ended, and a refusal asks no other store. So it leaves out what it
 * cannot see, and all of them where projections are known to be doubted.
 */
export async function viewOpenOrders(
  finder: Finder,
  { userId, orderNos }: { userId: string; orderNos: readonly string[] },
): Promise<OpenOrderReply[]> {
  const { reservations, projection, log } = finder;
  if (orderNos.length === 0 || projection.isKnownDoubted()) return [];
  const looks = await Promise.allSettled(orderNos.map(reservations.lookUp));
  return looks.flatMap((look) => {
    if (look.status === 'rejected') {
      log.warn({ err: look.reason as unknown }, 'an open order could not be read for a refusal');
      return [];
    }
    const { found, isCertain } = look.value;
    if (!found || !isCertain || found.order.userId !== userId || isFinal(found.state.status)) return [];
    const { orderNo, status, payment, closing, items, total, currency, deadline } = viewOrder(
      finder,
      found.order,
      found.state,
    );
    return [{ orderNo, status, payment, closing, items, total, currency, deadline }];
  });
}
