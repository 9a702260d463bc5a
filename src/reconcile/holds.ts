/**
 * Finds holds that no process will end: walks the held orders of each sale by their deadlines, page by page,
 * and ends what has ended in MySQL, puts lost orders back into the outbox, and abandons those that are past
 * their deadline. What waits or is being worked on is left alone.
 */

import pLimit from 'p-limit';
import type { OrderEngine } from '../engine/order-engine.ts';
import { abandonOrder } from '../orders/both-stores.ts';
import { follow } from '../orders/follow.ts';
import { expectedHold, isFinal, orderDeadlineMs, parseOrderNo, type OrderState } from '../orders/order.ts';
import type { ReservedOrder } from '../orders/reservations.redis.ts';
import { formatSaleShard, type SaleShard } from '../redis/keys.ts';
import { isDamaged } from '../redis/script.ts';
import type { Stores } from '../stores/open.ts';
import { type StepReport } from '../workflows/contract.ts';
import { formatHeldOrder, parseHeldOrder, type HeldOrder, type HoldPlace } from './holds.redis.ts';
import { inOneRun, MANY_PAGES_MAX } from './walk.ts';

/** Holds looked at by one script: it takes about two milliseconds of Redis. */
const PAGE_SIZE = 500;
/** Orders worked on at once: few, because shoppers share the stores and the engine. */
const AT_ONCE = 8;
/** Orders of one page that may fail by themselves. With more of them a store is away, and the page waits. */
const FAILURES_MAX = 2;
/**
 * A lost order is abandoned so long after its deadline: a payment of the last second is recorded by then, and
 * the clocks of two machines differ by less.
 */
const ABANDON_GRACE_MS = 5 * 60_000;

interface HoldsDeps extends Stores {
  engine: Pick<OrderEngine, 'isRunning'>;
}

type Outcome = 'fine' | 'repaired' | 'parked' | 'failed';
type HoldsReport = StepReport & { failed: number };

/** @param pagesMax of each sale in one run */
export async function mendHolds(
  deps: HoldsDeps,
  signal: AbortSignal,
  pagesMax = MANY_PAGES_MAX,
): Promise<StepReport> {
  const walked: HoldsReport = { looked: 0, repaired: 0, parked: 0, failed: 0 };
  for (const shard of await deps.holds.listShards()) {
    if (signal.aborted) break;
    await walkShard(deps, shard, pagesMax, walked, signal);
  }
  const { failed, ...report } = walked;
  if (report.repaired + report.parked > 0) deps.log.warn(report, 'holds that no process would have ended');
  if (failed > 0) throw new Error(`${failed} of ${report.looked} holds could not be judged`);
  return report;
}

async function walkShard(
  deps: HoldsDeps,
  shard: SaleShard,
  pagesMax: number,
  report: HoldsReport,
  signal: AbortSignal,
): Promise<void> {
  const { holds, cursors } = deps;
  const walk = `holds ${formatSaleShard(shard)}`;
  let after = parseHeldOrder((await cursors.read(walk)) ?? '');
  const mayGoOn = inOneRun(pagesMax, signal);
  while (mayGoOn()) {
    const page = await holds.list(shard, PAGE_SIZE, after);
    for (const outcome of await judgePage(deps, shard, page)) {
      if (outcome === 'repaired') report.repaired += 1;
      if (outcome === 'parked') report.parked += 1;
      if (outcome === 'failed') report.failed += 1;
    }
    report.looked += page.length;
    after = page.length === PAGE_SIZE ? page.at(-1) : undefined;
    await cursors.save(walk, after && formatHeldOrder(after));
    if (!after) return;
  }
}

async function judgePage(deps: HoldsDeps, shard: SaleShard, page: readonly HeldOrder[]): Promise<Outcome[]> {
  const orderNos = page.map(({ orderNo }) => orderNo);
  // Redis first, then MySQL: an entry leaves the outbox only after its order was stored or started, and
  // MySQL ends an order before Redis does.
  const seen = await deps.holds.look(shard, orderNos);
  const judged = orderNos.flatMap((orderNo, i) => {
    const place = seen[i];
    return place === undefined || place === 'waits' ? [] : [{ shard, orderNo, place }];
  });
  const states = await deps.repairs.readStates(judged.map(({ orderNo }) => orderNo));
  const limit = pLimit(AT_ONCE);
  let failed = 0;
  // An order that fails again and again must not keep those after it from being looked at.
  const tryToJudge = async (held: Held): Promise<Outcome> => {
    try {
      return await judge(deps, held, states.get(held.orderNo));
    } catch (error) {
      failed += 1;
      if (failed > FAILURES_MAX) throw error;
      deps.log.warn({ err: error, orderNo: held.orderNo }, 'a hold could not be judged');
      return 'failed';
    }
  };
  return Promise.all(judged.map((held) => limit(() => tryToJudge(held))));
}

interface Held {
  shard: SaleShard;
  orderNo: string;
  /** Where `look` saw it. */
  place: HoldPlace;
}

/** @throws when a store or Temporal is away; an order that cannot be read is parked */
async function judge(deps: HoldsDeps, held: Held, state: OrderState | null | undefined): Promise<Outcome> {
  try {
    if (!parseOrderNo(held.orderNo)) return await dropDeadline(deps, held);
    if (state === undefined) return await judgeUnstored(deps, held);
    if (state === null) return 'fine';
    // Its workflow ends it, and a missing hold of an open order is found by comparing the stores.
    if (!isFinal(state.status)) return 'fine';
    if (held.place !== 'left') return await dropDeadline(deps, held);
    if (await deps.repairs.isBeingEnded(held.orderNo)) return 'fine';
    // Between MySQL's commit and Redis its workflow is in that very step, and repeats it until it is done.
    return (await deps.engine.isRunning(held.orderNo)) ? 'fine' : await endHold(deps, held, state);
  } catch (error) {
    if (!isDamaged(error)) throw error;
    return park(deps, held.orderNo, 'order_damaged', `Redis cannot work on it: ${String(error)}`);
  }
}

/** The order has ended in MySQL, and nothing is due that would end its hold. */
async function endHold(deps: HoldsDeps, { shard, orderNo }: Held, state: OrderState): Promise<Outcome> {
  // It may have come since the page was read, and the workflow have ended by it.
  if ((await deps.holds.look(shard, [orderNo]))[0] !== 'left') return 'fine';
  // While the sale's data are being rebuilt, a later run ends it.
  await follow(deps, [{ orderNo, state }]);
  // A void hold has nothing to end.
  if ((await deps.holds.look(shard, [orderNo]))[0] === 'left') return 'fine';
  const after = expectedHold(state.status);
  await deps.repairs.record({ action: 'hold_settled', subject: orderNo, before: 'held', after });
  return 'repaired';
}

async function judgeUnstored(deps: HoldsDeps, held: Held): Promise<Outcome> {
  const { holds, reservations, repairs, engine } = deps;
  const { shard, orderNo } = held;
  if (held.place === 'settled') return dropDeadline(deps, held);
  // Read before the second look, so that a requeue by another process in between is noticed.
  const entry = held.place === 'left' ? await holds.readEntry(orderNo) : '';
  const [place] = await holds.look(shard, [orderNo]);
  if (place !== held.place) return 'fine';
  const reserved = place === 'left' ? await reservations.readOrder(orderNo) : undefined;
  // A workflow stores its order itself, but not twice: what was stored once is lost in MySQL alone.
  const wasStored = reserved !== undefined && reserved.state.version > 0;
  if (!wasStored && (await engine.isRunning(orderNo))) return 'fine';
  // Its workflow may have stored it and ended meanwhile.
  if ((await repairs.readStates([orderNo])).has(orderNo)) return 'fine';
  if (place === 'absent') {
    const outcome = await park(
      deps,
      orderNo,
      'order_lost',
      'it was accepted, and Redis has nothing but its deadline',
    );
    await dropDeadline(deps, held);
    return outcome;
  }
  if (place === 'damaged')
    return park(deps, orderNo, 'order_damaged', 'what Redis has is no order, and MySQL has none');
  return reserved
    ? recover(deps, reserved, entry)
    : park(deps, orderNo, 'order_damaged', 'Redis has only a part of it');
}

/**
 * The order is held, and nowhere else: no store and no queue knows it, and no workflow will store it. Where
 * MySQL has lost it, it is stored again, and its workflow goes on with it.
 */
async function recover(deps: HoldsDeps, { order, state }: ReservedOrder, entry: string): Promise<Outcome> {
  const { holds, repairs } = deps;
  const { orderNo } = order;
  if (state.version > 0 && isFinal(state.status)) {
    return park(
      deps,
      orderNo,
      'order_lost',
      `Redis shows it as ${state.status}, and MySQL does not know it any more`,
    );
  }
  const lateMs = Date.now() - orderDeadlineMs(order, state);
  if (lateMs < 0) {
    const outcome = await holds.requeue(orderNo, entry);
    if (outcome !== 'requeued') return 'fine';
    await repairs.record({ action: 'order_requeued', subject: orderNo, before: entry, after: outcome });
    return 'repaired';
  }
  if (lateMs < ABANDON_GRACE_MS) return 'fine';
  await abandonOrder(deps, order, 'store_unavailable');
  await repairs.record({ action: 'order_abandoned', subject: orderNo, before: 'held', after: 'released' });
  return 'repaired';
}

async function dropDeadline(
  { holds, repairs }: HoldsDeps,
  { shard, orderNo, place }: Held,
): Promise<Outcome> {
  // A step that ended the hold since the page was read has taken it off.
  if ((await holds.dropDeadline(shard, orderNo)) !== 'dropped') return 'fine';
  await repairs.record({ action: 'deadline_dropped', subject: orderNo, before: place, after: null });
  return 'repaired';
}

async function park(
  { repairs }: HoldsDeps,
  orderNo: string,
  cause: 'order_damaged' | 'order_lost',
  reason: string,
): Promise<Outcome> {
  await repairs.parkOrder(orderNo, cause, reason);
  return 'parked';
}
