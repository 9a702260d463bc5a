/**
 * Brings to Redis what MySQL has committed of orders: their states for those who poll, and the ends of their
 * holds. The only one that brings an end there.
 */

import type { Stores } from '../stores/open.ts';
import {
  isFinal,
  isLeftUnpaid,
  parseOrderNo,
  type ClosingReason,
  type OrderChange,
  type OrderState,
} from './order.ts';
import { projectChanges, type HoldOutcome } from './reservations.redis.ts';

/** The reason of the end that a caller wishes beside a hold, for an order that was not stored in time. */
export const WISH = 'wait_timeout' satisfies ClosingReason;

/**
 * open: it has not ended. settled: its hold has ended. later: the sale's data are being made again, and count
 * what MySQL has. failed: Redis or MySQL did not answer.
 */
type Followed = 'open' | 'settled' | 'later' | 'failed';

export interface FollowOutcome {
  /** As MySQL has it now: closing, where a wish to cancel waited in Redis. */
  state: OrderState;
  hold: Followed;
  /** Redis' answer about the hold, where it was asked and has answered. */
  found?: HoldOutcome;
}

type EndOfHold = Pick<FollowOutcome, 'hold' | 'found'>;

/**
 * Idempotent. What is not settled stays due in MySQL, and comes again.
 * @param byWorkflow the order's workflow asks, and so need not be signalled about the end
 * @returns by orderNo
 * @throws when Redis is away
 */
export async function follow(
  stores: Stores,
  changes: readonly OrderChange[],
  { byWorkflow }: { byWorkflow: boolean } = { byWorkflow: false },
): Promise<Map<string, FollowOutcome>> {
  const ended = changes.filter(({ state }) => isFinal(state.status));
  const [holds, states] = await Promise.all([endHolds(stores, ended), show(stores, changes)]);
  const settled = ended.filter(({ orderNo }) => holds.get(orderNo)?.hold === 'settled');
  await stores.endings.completeFollow(
    settled.map(({ orderNo }) => orderNo),
    byWorkflow,
  );
  return new Map(
    changes.map(({ orderNo, state }) => {
      return [orderNo, { state: states.get(orderNo) ?? state, hold: 'open', ...holds.get(orderNo) }];
    }),
  );
}

/**
 * Where a caller was told that its order is being cancelled while the order was being stored, MySQL learns of
 * it here: the order's outbox entry or its workflow's step is there until then.
 * @returns the states of those that are closing by it
 */
async function show(
  { orders, reservations }: Stores,
  changes: readonly OrderChange[],
): Promise<Map<string, OrderState>> {
  const closing = new Map<string, OrderState>();
  for (const { change, reply } of await projectChanges(reservations, changes)) {
    if (reply !== 'wished') continue;
    const { state } = await orders.requestCancel(change.orderNo, WISH);
    await reservations.project(change.orderNo, state);
    closing.set(change.orderNo, state);
  }
  return closing;
}

/** Turns holds into sales, or gives them back. A hold that is missing without a reason is parked. */
async function endHolds(stores: Stores, ended: readonly OrderChange[]): Promise<Map<string, EndOfHold>> {
  const { sales, log } = stores;
  // Asks MySQL once a sale: it is being rebuilt when this is asked, and the rebuild waits for connections
  // too.
  const watched = new Map<string, Promise<boolean>>();
  const isWatched = (saleId: string): Promise<boolean> => {
    const asked = watched.get(saleId) ?? sales.isWatched(saleId);
    watched.set(saleId, asked);
    return asked;
  };
  const holds = await Promise.all(
    ended.map(async (change): Promise<[string, EndOfHold]> => {
      try {
        return [change.orderNo, await endHold(stores, change, isWatched)];
      } catch (error) {
        log.warn({ err: error, orderNo: change.orderNo }, 'the hold of an ended order was not ended yet');
        return [change.orderNo, { hold: 'failed' }];
      }
    }),
  );
  return new Map(holds);
}

async function endHold(
  { reservations, orders }: Stores,
  { orderNo, state }: OrderChange,
  isWatched: (saleId: string) => Promise<boolean>,
): Promise<EndOfHold> {
  const found = await (state.status === 'paid'
    ? reservations.confirm(orderNo)
    : reservations.release(orderNo, isLeftUnpaid(state)));
  if (found === 'lost') await orders.parkLostHold(orderNo);
  if (found !== 'sale-absent') return { hold: 'settled', found };
  // A sale that is settled and long over is not made again: there is no stock left to settle.
  return { hold: (await isWatched(parseOrderNo(orderNo)?.saleId ?? '')) ? 'later' : 'settled', found };
}
