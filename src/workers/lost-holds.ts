/**
 * Orders of the outbox whose hold is of an older epoch than their sale: they were accepted and not stored
 * when the sale's data were made again. Each is reserved again, which puts it back into the outbox, or
 * abandoned where its units are sold by now. One that its shopper may have been told as lost is left so.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { Order } from '../domain/order.ts';
import { abandonOrder } from '../reconcile/abandon.ts';
import { isInvalidValue } from '../stores/mysql/errors.ts';
import type { Stores } from '../stores/open.ts';
import type { Outbox } from '../stores/redis/outbox.ts';
import type { ReserveAgainOutcome } from '../stores/redis/reservations.ts';
import type { Accepted } from './read-accepted.ts';

/** How often a sale is looked at whose data are being made again. */
const LOOK_EVERY_MS = 250;
/** A rebuild of a big sale takes less; after that the entry is read again, if it is still there. */
const WAIT_MAX_MS = 2 * 60_000;
const RESERVED_AGAIN = 'orders of an older epoch were reserved again';

export interface LostHoldDeps extends Stores {
  outbox: Pick<Outbox, 'referenceOf'>;

  /** Ends the waiting when the relay stops. */
  stopping: AbortSignal;
}

/** @throws when a store is away, or when a rebuild does not end: the entries are to be repeated */
export async function reserveLostHolds(deps: LostHoldDeps, entries: readonly Accepted[]): Promise<void> {
  const counts = { reserved: 0, abandoned: 0, leftLost: 0 };
  await Promise.all(
    entries.map(async (entry) => {
      const outcome = await reserveWhenRebuilt(deps, entry.order);
      const end = isHeld(outcome) ? 'reserved' : outcome.kind === 'too-late' ? 'leftLost' : 'abandoned';
      if (end === 'abandoned') await abandon(deps, entry);
      counts[end] += 1;
    }),
  );
  if (entries.length > 0) deps.log.warn(counts, RESERVED_AGAIN);
}

/**
 * Reserves those of these orders again whose hold is of an older epoch than their sale, without MySQL.
 * @returns those that need no workflow: they wait in the outbox again, or are lost
 * @throws when Redis is away: the entries are to be repeated
 */
export async function reserveOlder(
  { reservations, log }: Pick<LostHoldDeps, 'reservations' | 'log'>,
  entries: readonly Accepted[],
): Promise<Accepted[]> {
  const outcomes = await Promise.all(
    entries.map(({ order }) => reservations.reserveAgain(order, { knownForMs: 0 })),
  );
  const leftLost = entries.filter((_, i) => outcomes[i]?.kind === 'too-late');
  const reserved = entries.filter((_, i) => isHeld(outcomes[i]));
  const counts = { reserved: reserved.length, leftLost: leftLost.length };
  if (reserved.length + leftLost.length > 0) log.warn(counts, RESERVED_AGAIN);
  return [...reserved, ...leftLost];
}

function isHeld(outcome: ReserveAgainOutcome | undefined): boolean {
  return outcome?.kind === 'reserved' || (outcome?.kind === 'known' && outcome.hold === 'held');
}

/** The outbox of these orders may be gone, so this waits while the sale's data are being made again. */
async function reserveWhenRebuilt(
  { reservations, stopping }: LostHoldDeps,
  order: Order,
): Promise<ReserveAgainOutcome> {
  const untilMs = Date.now() + WAIT_MAX_MS;
  do {
    const outcome = await reservations.reserveAgain(order, { knownForMs: 0 });
    if (outcome.kind !== 'sale-absent') return outcome;
    await delay(LOOK_EVERY_MS, undefined, { signal: stopping });
  } while (Date.now() < untilMs);
  throw new Error(`order ${order.orderNo} was not reserved again: the data of its sale are not there yet`);
}

async function abandon(deps: LostHoldDeps, { entryId, order }: Accepted): Promise<void> {
  try {
    await abandonOrder(deps, order, 'lost_hold');
  } catch (error) {
    // MySQL refuses the values of this very order. A repeat would fail too, and delay the other entries.
    if (!isInvalidValue(error)) throw error;
    const { orderNo } = order;
    await deps.orders.parkOutboxEntry({
      reference: deps.outbox.referenceOf(entryId),
      orderNo,
      cause: 'order_refused',
      reason: `${orderNo} has lost its hold, and ${String(error)}`,
    });
  }
}
