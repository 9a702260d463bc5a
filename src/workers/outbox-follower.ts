/**
 * Empties the outbox of one sale shard, page by page: stores the accepted orders in MySQL, and starts their
 * workflows as far as the engine has room. The others are due in MySQL; in a burst, that is all of them. An
 * order that cannot be stored is left to its workflow. An entry is acknowledged once its order is stored or
 * started; before that it stays and is repeated.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { OrderEngine } from '../engine/order-engine.ts';
import { isInvalidValue } from '../mysql/connection.ts';
import { abandonOrder } from '../orders/both-stores.ts';
import { type Order, withShown } from '../orders/content.ts';
import { follow } from '../orders/follow.ts';
import { parseOrderNo, isFinal, type FailureReason, isTooLateToBegin } from '../orders/order.ts';
import { type ReserveAgainOutcome, type ReservedOrder } from '../orders/reservations.redis.ts';
import type { WorkflowPresence } from '../orders/store.sql.ts';
import type { Outbox, OutboxEntry } from '../redis/outbox.ts';
import type { Stores } from '../stores/open.ts';
import { takeStep } from '../tracing.ts';
import { SILENT_MS, type LivingWorkers } from './living-workers.ts';
import { backoffMs, type LoopWatch } from './loop.ts';
import type { EngineGate } from './starter.ts';

// Recognizes a burst: more orders come in than Temporal could take. While it lasts they are stored ahead, so
// that all are payable first, and Temporal gets what the processor has left. A sale without a rush goes on.

/**
 * So many orders within this time are ten times what a small Temporal starts. In waiting for the burst's end
 * it loses little, and storing gains the processor time.
 */
const BURST_MS = 1_000;
/** Orders of all sales within `BURST_MS`. */
export const BURST_ORDERS = 500;
/** A sale that has fewer of them than this goes on as ever: it is not its rush. */
const OF_ONE_SALE = BURST_ORDERS / 10;

export type Burst = ReturnType<typeof createBurst>;

/** One for all sales of a relay, because they share Temporal and MySQL. */
export function createBurst() {
  let windowStartedMs = 0;
  let readInWindow = 0;
  const readOf = new Map<string, number>();
  /** By sale, until when it is in a burst (Unix ms). */
  const untilMs = new Map<string, number>();

  return {
    /** Counts entries that were read from an outbox. */
    note(saleId: string, entryCount: number): void {
      const nowMs = Date.now();
      if (nowMs - windowStartedMs >= BURST_MS) {
        [windowStartedMs, readInWindow] = [nowMs, 0];
        readOf.clear();
      }
      readInWindow += entryCount;
      readOf.set(saleId, (readOf.get(saleId) ?? 0) + entryCount);
      if (readInWindow < BURST_ORDERS) return;
      for (const [sale, count] of readOf) if (count >= OF_ONE_SALE) untilMs.set(sale, nowMs + BURST_MS);
    },

    /** The sales that bring a burst. */
    sales(): ReadonlySet<string> {
      const nowMs = Date.now();
      for (const [sale, until] of untilMs) if (until <= nowMs) untilMs.delete(sale);
      return new Set(untilMs.keys());
    },

    isOn: (saleId: string): boolean => Date.now() < (untilMs.get(saleId) ?? 0),
  };
}

// Orders of the outbox whose hold is of an older epoch than their sale: they were accepted and not stored
// when the sale's data were made again. Each is reserved again, which puts it back into the outbox, or
// abandoned where its units are sold by now. One that may have been answered as lost is left so.

/** How often a sale is looked at whose data are being made again. */
const LOOK_EVERY_MS = 250;
/** A rebuild of a big sale takes less; after that the entry is read again, if it is still there. */
const WAIT_MAX_MS = 2 * 60_000;
const RESERVED_AGAIN = 'orders of an older epoch were reserved again';

interface LostHoldDeps extends Stores {
  outbox: Pick<Outbox, 'referenceOf'>;

  /** Ends the waiting when the relay stops. */
  stopping: AbortSignal;
}

/** @throws when a store is away, or when a rebuild does not end: the entries are to be repeated */
async function reserveLostHolds(deps: LostHoldDeps, entries: readonly Accepted[]): Promise<void> {
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
async function reserveOlder(
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

interface ReadDeps extends Stores {
  outbox: Pick<Outbox, 'acknowledge' | 'referenceOf'>;
}

/** An outbox entry with its order as Redis has it. */
export interface Accepted extends ReservedOrder {
  entryId: string;
}

const orderNoOf = ({ order }: Accepted): string => order.orderNo;

/**
 * Parks entries whose order cannot be read, and acknowledges them, so that they do not delay the others. An
 * order that Redis lost with all of its sale is not parked: no operator could bring it back.
 */
async function readAccepted(
  { outbox, reservations, orders, saleStock, log }: ReadDeps,
  entries: readonly OutboxEntry[],
): Promise<Accepted[]> {
  if (entries.length === 0) return [];
  const found = await reservations.readOrders(entries.map(({ orderNo }) => orderNo));
  const accepted: Accepted[] = [];
  for (const [i, { entryId, orderNo }] of entries.entries()) {
    const reserved = found[i];
    if (reserved) {
      const { order, state } = reserved;
      accepted.push({ entryId, order: withShown(order, state), state });
      continue;
    }
    log.error({ orderNo, entryId }, 'an outbox entry names an order that Redis does not have');
    if (!(await isLostWithSale(saleStock, orderNo))) {
      await orders.parkOutboxEntry({
        reference: outbox.referenceOf(entryId),
        orderNo,
        cause: 'outbox_entry_unreadable',
        reason: `no order ${orderNo} in Redis`,
      });
    }
    await outbox.acknowledge([entryId]);
  }
  return accepted;
}

async function isLostWithSale(saleStock: ReadDeps['saleStock'], orderNo: string): Promise<boolean> {
  const parts = parseOrderNo(orderNo);
  if (!parts) return false;
  const life = await saleStock.checkLife(parts.saleId);
  return life.kind !== 'well' || life.epoch > parts.epoch;
}

// Stores accepted orders in MySQL ahead of their workflows, so that they are payable at once: stores a
// page, projects its states and takes its entries off the outbox.

interface StoreAheadDeps extends LostHoldDeps {
  outbox: LostHoldDeps['outbox'] & Pick<Outbox, 'acknowledge'>;

  /** Bounds the transactions under way, over all sales of a relay, which take turns. */
  storing: <T>(work: () => Promise<T>) => Promise<T>;
  watch?: LoopWatch;
}

export interface StoreAheadOutcome {
  /** With their states as MySQL has them. */
  stored: Accepted[];
  refused: Refused[];
}

/** An order that MySQL can never store. */
interface Refused extends Accepted {
  reason: FailureReason;
}

/**
 * @param presence claimed: the caller starts their workflows at once. due: a relay starts them later
 * @returns refused: their own workflows will get the refusal and release the stock. An order of an older
 *   epoch is not among them: it is reserved again and comes back, or is abandoned
 * @throws when the store as a whole is unavailable
 */
async function storeAhead(
  deps: StoreAheadDeps,
  accepted: readonly Accepted[],
  presence: Exclude<WorkflowPresence, 'started'>,
): Promise<StoreAheadOutcome> {
  if (accepted.length === 0) return { stored: [], refused: [] };
  const { outbox, orders, storing } = deps;
  const batch = accepted.map(({ order }) => order);
  const store = () => orders.storeOrders(batch, presence);
  const { tracing, watch } = deps;
  const work = tracing ? () => tracing.storePage(batch, store) : store;
  // From its turn on: many pages wait for theirs while MySQL is away, and none of them hangs.
  const outcomes = await storing(watch ? () => watch.during('outbox page', work) : work);
  const durable: Accepted[] = [];
  const refused: Refused[] = [];
  for (const entry of accepted) {
    const outcome = outcomes.get(entry.order.orderNo);
    if (!outcome) throw new Error(`no outcome for order ${entry.order.orderNo}`);
    if (outcome.kind === 'refused') refused.push({ ...entry, reason: outcome.reason });
    else durable.push({ ...entry, state: outcome.state });
  }
  if (deps.log.isLevelEnabled('debug'))
    for (const { order, state } of durable)
      deps.log.debug({ orderNo: order.orderNo, step: 'store', status: state.status }, 'order');
  const followed = await follow(
    deps,
    durable.map(({ order: { orderNo }, state }) => ({ orderNo, state })),
  );
  for (const entry of durable) entry.state = followed.get(entry.order.orderNo)?.state ?? entry.state;
  if ([...followed.values()].some(({ hold }) => hold === 'failed'))
    throw new Error('Redis does not follow what was stored');
  await outbox.acknowledge(durable.map(({ entryId }) => entryId));
  // A paid one is for an operator, as any paid order that is refused.
  const lost = refused.filter(({ reason, state }) => reason === 'lost_hold' && state.status !== 'paid');
  await reserveLostHolds(deps, lost);
  await outbox.acknowledge(lost.map(({ entryId }) => entryId));
  return { stored: durable, refused: refused.filter((entry) => !lost.includes(entry)) };
}

interface StartDeps extends StoreAheadDeps {
  engine: Pick<OrderEngine, 'start'>;
  gate: EngineGate;
}

/**
 * Starts orders that are stored and claimed, and ends the claims. An order whose start failed is due again at
 * once, at its place. One that is final in MySQL is not started: its entry came again. Nor is one that it is
 * too late to begin: due again, it is left to be ended without a workflow.
 * @param admitted orders that have a slot of the engine budget, with their states as MySQL has them
 * @param nowMs by Redis' clock (Unix ms)
 */
async function startStored(deps: StartDeps, admitted: readonly Accepted[], nowMs: number): Promise<void> {
  const open = admitted.filter(({ state }) => !isFinal(state.status));
  const late = open.filter((entry) => isTooLate(entry, nowMs));
  const startable = open.filter((entry) => !late.includes(entry));
  const started = await deps.gate.run(startable, orderNoOf, ({ order, state }) =>
    takeStep(deps, 'start workflow', order, () => deps.engine.start(order, state), { kind: 'client' }),
  );
  await deps.gate.release(
    admitted.filter((entry) => !startable.includes(entry)),
    orderNoOf,
  );
  await deps.orderClaims.complete(started);
  const failed = startable.filter((entry) => !started.includes(entry));
  await deps.orderClaims.release([...failed, ...late], failed);
}

/** An order that is to be cancelled is started however late it is. */
function isTooLate({ order, state }: Accepted, nowMs: number): boolean {
  return state.reason === null && isTooLateToBegin(order, nowMs);
}

/**
 * Starts orders that could not be stored: their workflows store or abandon them. Takes the entries of those
 * that were started off the outbox; the others stay. One of an older epoch is reserved again instead, or
 * left: it may have been answered as lost, while this process was frozen. Left is also one that
 * it is too late to begin, while MySQL is away: once stored, it is ended without a workflow.
 * @param admitted orders that have a slot of the engine budget; `reason` where MySQL refuses the order, and
 *   not where MySQL is away
 * @param nowMs by Redis' clock (Unix ms)
 */
async function startUnstored(
  deps: StartDeps,
  admitted: readonly (Accepted & Partial<Pick<Refused, 'reason'>>)[],
  nowMs: number,
): Promise<void> {
  const unpaid = admitted.filter(({ state }) => state.status !== 'paid');
  const handled = await reserveOlder(
    deps,
    unpaid.filter(({ reason }) => reason === undefined),
  );
  const late = unpaid.filter((entry) => entry.reason === undefined && isTooLate(entry, nowMs));
  const startable = unpaid.filter((entry) => !handled.includes(entry) && !late.includes(entry));
  await deps.gate.release(
    unpaid.filter((entry) => !startable.includes(entry)),
    orderNoOf,
  );
  const started = await deps.gate.run(startable, orderNoOf, ({ order }) =>
    takeStep(deps, 'start workflow', order, () => deps.engine.start(order), { kind: 'client' }),
  );
  await deps.outbox.acknowledge(started.map(({ entryId }) => entryId));
  for (const entry of admitted) if (!unpaid.includes(entry)) await parkPaid(deps, entry);
}

/**
 * A paid order that MySQL has lost and refuses is left to an operator: its workflow would abandon it and
 * release its units, and the goods may be on their way.
 */
async function parkPaid(
  { gate, orders, outbox }: StartDeps,
  entry: Accepted & Partial<Pick<Refused, 'reason'>>,
): Promise<void> {
  await gate.release([entry], orderNoOf);
  if (entry.reason === undefined) return;
  const { orderNo } = entry.order;
  await orders.parkOutboxEntry({
    reference: outbox.referenceOf(entry.entryId),
    orderNo,
    cause: 'paid_order_refused',
    reason: `${orderNo} was paid, and MySQL refuses the order: ${entry.reason}`,
  });
  await outbox.acknowledge([entry.entryId]);
}

// Reads the outbox of one sale shard page by page: new entries, and those that were read before and are not
// acknowledged. Several pages may be under way at once.

/** How long one read waits for new entries, and so how long a shutdown may wait for the read. */
const BLOCK_MS = 1_000;
/** Entries that were left are read again after this pause, on top of the back-offs of Temporal and MySQL. */
const RETRY_PAUSE_MS = 250;
/** The cursor before the first entry. */
const FIRST = '0';

export interface OutboxPage {
  entries: readonly OutboxEntry[];
  /** To be called once the page was handled. Entries that were left are read again. */
  finish: (isLeft: boolean) => void;
}

function createOutboxPages(outbox: Pick<Outbox, 'readPending' | 'readNew'>, pageSize: number) {
  /** Of the pages under way. They are pending in Redis as well, and must not be handled twice at once. */
  const underWay = new Set<string>();
  /**
   * Unix time in ms at which to read unacknowledged entries from the first on; Infinity: there are none. The
   * relay begins with them: an earlier process of its name, or a relay that died, may have left some.
   */
  let roundDueMs = 0;
  /** Where the round of reading them goes on: after this entry. Undefined: there is no round. */
  let cursor: string | undefined;

  async function readRepeated(after: string): Promise<OutboxEntry[]> {
    const entries = await outbox.readPending(pageSize, after);
    // A full page is followed by the next one.
    cursor = entries.length === pageSize ? entries.at(-1)?.entryId : undefined;
    return entries.filter(({ entryId }) => !underWay.has(entryId));
  }

  async function readNew(): Promise<OutboxEntry[]> {
    try {
      return await outbox.readNew(pageSize, Math.max(1, Math.min(BLOCK_MS, roundDueMs - Date.now())));
    } catch (error) {
      // Where the answer was lost on its way, its entries are pending under our name.
      roundDueMs = 0;
      throw error;
    }
  }

  return {
    /** Has all unacknowledged entries read again, as after entries were claimed from another relay. */
    restart(): void {
      roundDueMs = 0;
    },

    /** One read at a time. Earlier pages may still be under way. */
    async read(): Promise<OutboxPage> {
      if (cursor === undefined && Date.now() >= roundDueMs) [cursor, roundDueMs] = [FIRST, Infinity];
      const entries = cursor === undefined ? await readNew() : await readRepeated(cursor);
      for (const { entryId } of entries) underWay.add(entryId);
      return {
        entries,
        finish(isLeft) {
          for (const { entryId } of entries) underWay.delete(entryId);
          if (isLeft) roundDueMs = Math.min(roundDueMs, Date.now() + RETRY_PAUSE_MS);
        },
      };
    },
  };
}

const TAKE_OVER_EVERY_MS = 1_000;
/** An entry that no one has touched for so long is left: whoever has it retries every few seconds. */
const LEFT_AFTER_MS = 30_000;
const MAINTENANCE_EVERY_MS = 10_000;
/** A consumer that has been idle for so long belongs to a relay that has ended, and is removed. */
const CONSUMER_IDLE_MS = 10 * 60_000;
/** In a burst a page that is not full waits so long for more, so that its transaction is worth its commit. */
const FILL_PAUSE_MS = 20;

export interface FollowerDeps extends Stores, Omit<StartDeps, 'outbox' | 'reservations' | 'orders'> {
  outbox: Outbox;
  /** Entries of a page, which is also one store batch. */
  outboxPage: number;
  /** Of all sales of the relay. */
  storesAtOnce: number;
  saleId: string;
  burst: Burst;
  living: Pick<LivingWorkers, 'list'>;
}

export function createOutboxFollower(deps: FollowerDeps) {
  const { outbox, outboxPage: pageSize, storesAtOnce, saleId, gate, burst, living, log } = deps;
  const pages = createOutboxPages(outbox, pageSize);
  // One page is read while others are stored; more would only wait here instead of in Redis.
  const pagesMax = storesAtOnce + 1;
  const underWay = new Set<Promise<void>>();
  /** At most as many starts as the engine budget has slots. */
  const starting = new Set<Promise<void>>();
  let [tookOverAtMs, maintainedAtMs] = [0, 0];
  let failures = 0;
  let pausedUntilMs = 0;

  /** Takes over the entries of relays that are gone. */
  async function takeOver(): Promise<void> {
    if (Date.now() - tookOverAtMs < TAKE_OVER_EVERY_MS) return;
    const workers = living.list();
    let claimed = workers === undefined ? 0 : await outbox.takeOver(pageSize, workers, SILENT_MS);
    tookOverAtMs = Date.now();
    if (tookOverAtMs - maintainedAtMs >= MAINTENANCE_EVERY_MS) {
      claimed += await outbox.claimAbandoned(pageSize, LEFT_AFTER_MS);
      await outbox.removeIdleConsumers(CONSUMER_IDLE_MS);
      maintainedAtMs = tookOverAtMs;
    }
    if (claimed === 0) return;
    log.warn({ claimed }, 'claimed the outbox entries of a relay that is gone');
    pages.restart();
  }

  /** Work that no page waits for. Its failures lose nothing: entries stay, and claims run out. */
  function inBackground(work: Promise<void>): void {
    const running = work
      .catch((error: unknown) => log.warn({ err: error }, 'orders were not started; they will be'))
      .finally(() => starting.delete(running));
    starting.add(running);
  }

  /** @returns whether orders are left that are neither stored nor started */
  async function storeAndStart(entries: readonly OutboxEntry[]): Promise<boolean> {
    const accepted = await readAccepted(deps, entries);
    // While MySQL fails, the engine takes what it can also in a burst.
    const engineWaits = burst.isOn(saleId) && failures === 0;
    const admitted = engineWaits ? [] : await gate.admit(accepted, orderNoOf, 'start');
    const [first] = admitted;
    const nowMs = first ? await deps.saleStock.readTimeMs(first.order.saleId) : 0;
    const others = admitted.length === 0 ? accepted : accepted.filter((entry) => !admitted.includes(entry));
    const [startable, rest] = await Promise.allSettled([
      storeAhead(deps, admitted, 'claimed'),
      storeAhead(deps, others, 'due'),
    ]);
    // What MySQL refuses or does not take goes to its workflow, which persists it or abandons it.
    const isStored = startable.status === 'fulfilled';
    const unstored = isStored ? startable.value.refused : admitted;
    inBackground(startUnstored(deps, unstored, nowMs));
    if (!isStored) throw startable.reason;
    inBackground(startStored(deps, startable.value.stored, nowMs));
    if (rest.status === 'rejected') throw rest.reason;
    return unstored.length + rest.value.refused.length > 0;
  }

  async function handle({ entries, finish }: OutboxPage): Promise<void> {
    try {
      finish(await storeAndStart(entries));
      failures = 0;
    } catch (error) {
      finish(true);
      const pauseMs = backoffMs(failures);
      failures += 1;
      pausedUntilMs = Date.now() + pauseMs;
      log.warn({ err: error, failures, pauseMs }, 'a page of the outbox failed and will be repeated');
    }
  }

  return {
    /** Reads a page and has it handled. @returns the pause before the next pass, in ms */
    async pass(): Promise<number> {
      await takeOver();
      while (underWay.size >= pagesMax) await Promise.race(underWay);
      const pauseMs = pausedUntilMs - Date.now();
      if (pauseMs > 0) return pauseMs;
      const page = await pages.read();
      burst.note(saleId, page.entries.length);
      const handling = handle(page).finally(() => underWay.delete(handling));
      underWay.add(handling);
      return burst.isOn(saleId) && page.entries.length < pageSize ? FILL_PAUSE_MS : 0;
    },

    /** Has what was read and not acknowledged read again, as after Redis was away: it may be another one. */
    restart: (): void => pages.restart(),

    /** Waits for what is under way. */
    async drain(): Promise<void> {
      await Promise.all(underWay);
      await Promise.all(starting);
    },
  };
}
