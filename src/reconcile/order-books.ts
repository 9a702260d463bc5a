/** Steps that walk the orders: their bookings against their states, and their projections. */

import type { NumberedState } from '../events/events.sql.ts';
import { WISH } from '../orders/follow.ts';
import { projectChanges } from '../orders/reservations.redis.ts';
import type { Stores } from '../stores/open.ts';
import type { StepReport } from '../workflows/contract.ts';
import { inOneRun, MANY_PAGES_MAX } from './walk.ts';

// Finds orders in MySQL that contradict themselves: a row that is not what its events say, or whose stock
// was booked otherwise. No rule can know which of them is right, so each is parked.

/** Orders checked by one snapshot, in some dozens of milliseconds. */
const PAGE_SIZE = 500;
/** Parked ones that are looked at again in one run. */
const PARKED_MAX = 100;
const WALK = 'order books';

export async function checkOrderBooks(deps: Stores, signal: AbortSignal): Promise<StepReport> {
  const { orderBooks, cursors, log } = deps;
  const report = { looked: 0, repaired: 0, parked: 0 };
  await orderBooks.unparkWhole(PARKED_MAX);
  let after = await cursors.read(WALK);
  const mayGoOn = inOneRun(MANY_PAGES_MAX, signal);
  while (mayGoOn()) {
    const { checked, last, broken } = await orderBooks.checkAfter(after ?? '', PAGE_SIZE);
    for (const order of broken) log.error(order, 'an order contradicts itself');
    await orderBooks.park(broken);
    report.looked += checked;
    report.parked += broken.length;
    after = last;
    await cursors.save(WALK, after);
    if (after === undefined) break;
  }
  return report;
}

// Walks the changes of all orders in the sequence of the feed, and projects those that Redis does not have.
// The workflow that is to project a change may vanish before: terminated, deleted, or lost with Temporal.

/** Changes projected by a few scripts, each of which takes less than a millisecond of Redis. */
const STATES_AT_ONCE = 500;
/** A workflow projects within moments. What has not come after this time is behind. */
const GRACE_MS = 5_000;
const STATES_WALK = 'projections';

/** A projection is a copy, of which nothing is decided here, so the log of actions gets no entry of it. */
export async function mendProjections(deps: Stores, signal: AbortSignal): Promise<StepReport> {
  const { eventRows, cursors, log } = deps;
  const report = { looked: 0, repaired: 0, parked: 0 };
  let after = Number((await cursors.read(STATES_WALK)) ?? 0);
  const mayGoOn = inOneRun(MANY_PAGES_MAX, signal);
  while (mayGoOn()) {
    const page = await eventRows.listStates(after, STATES_AT_ONCE, GRACE_MS);
    const replies = await projectPage(deps, page);
    report.looked += page.length;
    report.repaired += replies.filter((reply) => reply === 'projected').length;
    // Further changes may follow the last one at any time, so the walk stays there and never begins anew.
    after = page.at(-1)?.sequence ?? after;
    await cursors.save(STATES_WALK, String(after));
    if (page.length < STATES_AT_ONCE) break;
  }
  if (report.repaired > 0) log.warn(report, 'Redis was behind MySQL, and shows these changes now');
  return report;
}

async function projectPage(
  { reservations, orders, log }: Stores,
  page: readonly NumberedState[],
): Promise<string[]> {
  // The last change of each order.
  const changes = [...new Map(page.map((change) => [change.orderNo, change])).values()];
  const projected = await projectChanges(reservations, changes);
  for (const { change, reply } of projected) {
    // The process that stored it has died, or left its caller's wish to this step.
    if (reply === 'wished') await orders.requestCancel(change.orderNo, WISH);
    if (reply === 'damaged') log.warn({ orderNo: change.orderNo }, 'a damaged order could not be projected');
  }
  return projected.map(({ reply }) => reply);
}
