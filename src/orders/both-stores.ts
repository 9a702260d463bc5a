/**
 * What an order needs of both stores: it is stored with its hold or abandoned, and its hold ends when it
 * has ended. Redis takes before MySQL, MySQL gives back before Redis.
 */

import type { Stores } from '../stores/open.ts';
import type { Order } from './content.ts';
import {
  type ClosingReason,
  type FailureReason,
  isFinal,
  isLeftUnpaid,
  type OrderState,
  parseOrderNo,
} from './order.ts';
import type { StoreOutcome, WorkflowPresence } from './orders.sql.ts';
import { type OrderChange, projectChanges } from './reservations.redis.ts';

/**
 * An order that was accepted and not yet stored when the sale's data were made again under a new epoch. It
 * keeps its prices, and is refused as `lost_hold` where its units are sold by now, or where its shopper may
 * have been answered that it is lost.
 * @param knownForMs for how long Temporal has known the order
 * @throws when a store is away, or while the sale's data are being made again: to be repeated
 */
export async function storeWithHold(
  { orders, reservations }: Stores,
  order: Order,
  presence: WorkflowPresence,
  knownForMs = 0,
): Promise<StoreOutcome> {
  const outcome = await orders.storeOrder(order, presence);
  if (outcome.kind !== 'refused' || outcome.reason !== 'lost_hold') return outcome;
  const again = await reservations.reserveAgain(order, { knownForMs });
  switch (again.kind) {
    case 'reserved':
      return orders.storeOrder({ ...order, holdEpoch: again.epoch }, presence);
    case 'known':
      // Held by an earlier try, or by another process. With a hold that has ended it would have no stock.
      if (again.hold !== 'held') return outcome;
      return orders.storeOrder({ ...order, holdEpoch: again.epoch }, presence);
    case 'sold-out':
    case 'unknown-sku':
    case 'too-late':
      return outcome;
    case 'sale-absent':
      throw new Error(`the data of sale ${order.saleId} are being made again`);
    default:
      return again satisfies never;
  }
}

/**
 * Projects the committed state, and releases the stock of an order that ended unpaid. Idempotent.
 * @throws when Redis is away, or while the sale's data are being made again: to be repeated
 */
export async function projectAndRelease(deps: Stores, orderNo: string, state: OrderState): Promise<void> {
  await deps.reservations.project(orderNo, state);
  if (!isFinal(state.status) || state.status === 'paid') return;
  if ((await endHold(deps, orderNo, state)) === 'later')
    throw new Error(`order ${orderNo} has ended, and the data of its sale are being made again`);
}

/**
 * Shows what was stored just now. Where a caller was told that its order is being cancelled, and that came
 * while the order was being stored, MySQL learns of it here: its entry or its step is there until then.
 * @returns the states of those that are closing by it
 * @throws when a store is away: to be repeated
 */
export async function showStored(
  { orders, reservations }: Stores,
  stored: readonly OrderChange[],
): Promise<Map<string, OrderState>> {
  const closing = new Map<string, OrderState>();
  for (const { change, reply } of await projectChanges(reservations, stored)) {
    if (reply !== 'wished') continue;
    const { state } = await orders.requestCancel(change.orderNo, WISH);
    await reservations.project(change.orderNo, state);
    closing.set(change.orderNo, state);
  }
  return closing;
}

/**
 * Notes that its caller wants an order cancelled that was not stored in time: beside its hold in Redis, for
 * whoever stores it, or in MySQL, where Redis does not have it or does not answer, and where it is free: a
 * free order is paid as it is stored, and MySQL alone knows which of the two came first.
 * @param order as Redis had it, where it was read
 * @returns wished: durable. stored, ended: it is to be looked at. unknown: no store took the wish
 * @throws when neither store answers
 */
export async function wishCancel(
  { reservations, orders, log }: Stores,
  orderNo: string,
  order?: Order,
): Promise<'wished' | 'stored' | 'ended' | 'unknown'> {
  const noted = await reservations.wishCancel(orderNo, WISH).catch((error: unknown) => {
    log.warn({ err: error, orderNo }, 'no answer from Redis to a wish to cancel; asking MySQL');
  });
  if (noted && noted !== 'absent') return noted;
  if (order) await orders.storeOrder({ ...order, wish: WISH }, 'due');
  if (!(await orders.read(orderNo))) return 'unknown';
  const { state } = await orders.requestCancel(orderNo, WISH);
  return state.reason !== null && !isFinal(state.status) ? 'wished' : 'stored';
}

/** The reason of the end that is wished beside a hold. */
export const WISH = 'wait_timeout' satisfies ClosingReason;

/**
 * Does what the order's workflow would do. First a tombstone makes the order's payments due for refund and
 * keeps any slow write from storing the order, and only then its stock is released. An order that was stored
 * in the meantime goes on and keeps its stock.
 * @returns the order's state from then on
 * @throws when a store is away, or when MySQL refuses the tombstone too: the whole is to be repeated
 */
export async function abandonOrder(deps: Stores, order: Order, reason: FailureReason): Promise<OrderState> {
  const { state } = await deps.orders.abandon(order, reason);
  await projectAndRelease(deps, order.orderNo, state);
  return state;
}

type EndState = Pick<OrderState, 'status' | 'reason'>;

/**
 * Turns the hold into a sale or gives it back. Idempotent. A hold that is missing without a reason is parked
 * for an operator.
 * @param state final
 * @returns later: the sale's data are being made again, so the call is to be repeated
 * @throws when a store is away
 */
export async function endHold(
  { reservations, orders, sales }: Stores,
  orderNo: string,
  state: EndState,
): Promise<'settled' | 'later'> {
  const hold = await (state.status === 'paid'
    ? reservations.confirm(orderNo)
    : reservations.release(orderNo, isLeftUnpaid(state)));
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
export function endHolds(
  deps: Stores,
  ended: readonly { orderNo: string; state: EndState }[],
): Promise<PromiseSettledResult<'settled' | 'later'>[]> {
  const answers = new Map<string, Promise<boolean>>();
  function isWatched(saleId: string): Promise<boolean> {
    const answer = answers.get(saleId) ?? deps.sales.isWatched(saleId);
    answers.set(saleId, answer);
    return answer;
  }
  const once = { ...deps, sales: { ...deps.sales, isWatched } };
  return Promise.allSettled(ended.map(({ orderNo, state }) => endHold(once, orderNo, state)));
}
