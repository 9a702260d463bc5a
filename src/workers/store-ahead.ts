/**
 * Stores accepted orders in MySQL ahead of their workflows, so that they are payable at once: stores a page,
 * projects its states and takes its entries off the outbox.
 */

import type { LimitFunction } from 'p-limit';
import { isFinal, type FailureReason } from '../domain/order.ts';
import { settleStocks } from '../rebuild/settle-stock.ts';
import type { WorkflowPresence } from '../stores/mysql/orders/orders.ts';
import type { Outbox } from '../stores/redis/outbox.ts';
import { projectChanges } from '../stores/redis/project-changes.ts';
import { reserveLostHolds, type LostHoldDeps } from './lost-holds.ts';
import type { Accepted } from './read-accepted.ts';

export interface StoreAheadDeps extends LostHoldDeps {
  outbox: LostHoldDeps['outbox'] & Pick<Outbox, 'acknowledge'>;

  /** Bounds the transactions under way, over all sales of a relay; first come, first served. */
  storing: LimitFunction;
}

export interface StoreAheadOutcome {
  /** With their states as MySQL has them. */
  stored: Accepted[];
  refused: Refused[];
}

/** An order that MySQL can never store. */
export interface Refused extends Accepted {
  reason: FailureReason;
}

/**
 * @param presence claimed: the caller starts their workflows at once. due: a relay starts them later
 * @returns refused: their own workflows will get the refusal and release the stock. An order of an older
 *   epoch is not among them: it is reserved again and comes back, or is abandoned
 * @throws when the store as a whole is unavailable
 */
export async function storeAhead(
  deps: StoreAheadDeps,
  accepted: readonly Accepted[],
  presence: Exclude<WorkflowPresence, 'started'>,
): Promise<StoreAheadOutcome> {
  if (accepted.length === 0) return { stored: [], refused: [] };
  const { outbox, reservations, orders, storing } = deps;
  const batch = accepted.map(({ order }) => order);
  const outcomes = await storing(() => orders.storeOrders(batch, presence));
  const durable: Accepted[] = [];
  const refused: Refused[] = [];
  for (const entry of accepted) {
    const outcome = outcomes.get(entry.order.orderNo);
    if (!outcome) throw new Error(`no outcome for order ${entry.order.orderNo}`);
    if (outcome.kind === 'refused') refused.push({ ...entry, reason: outcome.reason });
    else durable.push({ ...entry, state: outcome.state });
  }
  // Where a projection gets lost, the order's workflow projects again.
  await projectChanges(
    reservations,
    durable.map(({ order: { orderNo }, state }) => ({ orderNo, state })),
  );
  // The process that abandoned an order may have died before it released the stock.
  const abandoned = durable.filter(({ state: { status } }) => isFinal(status) && status !== 'paid');
  // One whose sale's data are being made again has nothing to release: the rebuild counts what MySQL has.
  const releases = await settleStocks(
    deps,
    abandoned.map(({ order: { orderNo }, state }) => ({ orderNo, state })),
  );
  const failed = releases.find((release) => release.status === 'rejected');
  if (failed) throw failed.reason;
  await outbox.acknowledge(durable.map(({ entryId }) => entryId));
  // A paid one is for an operator, as any paid order that is refused.
  const lost = refused.filter(({ reason, state }) => reason === 'lost_hold' && state.status !== 'paid');
  await reserveLostHolds(deps, lost);
  await outbox.acknowledge(lost.map(({ entryId }) => entryId));
  return { stored: durable, refused: refused.filter((entry) => !lost.includes(entry)) };
}
