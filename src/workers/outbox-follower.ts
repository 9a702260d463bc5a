/**
 * Empties the outbox of one sale shard: each accepted order is started in Temporal while the engine has room, or else stored
 * ahead in MySQL; only then is its entry acknowledged. An entry for which neither worked stays, and is tried again.
 */

import type { Logger } from 'pino';
import { ZodError } from 'zod';
import { parseOrderNo, type FailureReason } from '../domain/order.ts';
import type { OrderEngine } from '../engine/order-engine.ts';
import { isInvalidValue } from '../stores/mysql/connection.ts';
import type { Orders } from '../stores/mysql/orders/orders.ts';
import type { Outbox, OutboxEntry } from '../stores/redis/outbox.ts';
import type { ReservedOrder, Reservations } from '../stores/redis/reservations.ts';
import { projectAndRelease, abandonOrder } from './abandon.ts';
import type { EngineGate } from './engine-gate.ts';

/** Entries per pass: two store batches; more would only wait in this process instead of in Redis. */
const READ_MAX = 200;
/** How long one read waits for news; also how long shutdown may have to wait for it. */
const BLOCK_MS = 1_000;
/** Entries that stay are tried again after this pause: Temporal's back-off and MySQL's retries have passed already. */
const RETRY_PAUSE_MS = 250;
/** A consumer that has not touched an entry for so long is dead: living ones retry theirs every few seconds. */
const ABANDONED_AFTER_MS = 30_000;
const MAINTENANCE_EVERY_MS = 10_000;
/** Consumers of restarted relays; idle so long, they will not come back. */
const CONSUMER_IDLE_MS = 10 * 60_000;

export interface FollowerDeps {
  outbox: Outbox;
  reservations: Pick<Reservations, 'readOrder' | 'project' | 'release'>;
  orders: Pick<Orders, 'storeOrders' | 'abandon' | 'parkOutboxEntry'>;
  engine: Pick<OrderEngine, 'start'>;
  gate: EngineGate;
  log: Logger;
}

/** An entry, and its order as Redis has it. */
interface Accepted extends ReservedOrder {
  entryId: string;
}

/** MySQL will never store it. */
interface Refused extends Accepted {
  reason: FailureReason;
}

/** Before the first entry. */
const START = '0';

/** Entries that were read and are not durable yet. What an earlier life or a dead relay left behind comes first. */
interface Pending {
  /** Unix ms at which to read them again; Infinity: there are none. */
  dueMs: number;
  /** The page to be read next begins after this entry. */
  afterId: string;
  /** Whether an earlier page of this round left something. */
  isLeft: boolean;
}

const orderNoOf = ({ order }: Accepted): string => order.orderNo;

/** @returns one pass of the follower's loop; it answers the pause before the next */
export function createOutboxFollower({ outbox, reservations, orders, engine, gate, log }: FollowerDeps) {
  let pending: Pending = { dueMs: 0, afterId: START, isLeft: false };
  let maintainedAtMs = 0;

  async function maintain(): Promise<void> {
    if (Date.now() - maintainedAtMs < MAINTENANCE_EVERY_MS) return;
    const claimed = await outbox.claimAbandoned(READ_MAX, ABANDONED_AFTER_MS);
    if (claimed > 0) {
      log.warn({ claimed }, 'took over outbox entries that nobody had finished');
      pending = { dueMs: 0, afterId: START, isLeft: false };
    }
    await outbox.removeIdleConsumers(CONSUMER_IDLE_MS);
    maintainedAtMs = Date.now();
  }

  /** Undefined when the entry names no order, or one that Redis does not have whole. */
  async function readOrder({ orderNo }: OutboxEntry): Promise<ReservedOrder | undefined> {
    if (!parseOrderNo(orderNo)) return undefined;
    try {
      return await reservations.readOrder(orderNo);
    } catch (error) {
      if (error instanceof ZodError) return undefined;
      throw error;
    }
  }

  /** What nobody can make sense of is left to a person; it must not hold up the others. */
  async function readAccepted(entries: readonly OutboxEntry[]): Promise<Accepted[]> {
    const found = await Promise.all(
      entries.map(async (entry) => ({ ...entry, reserved: await readOrder(entry) })),
    );
    for (const { entryId, orderNo } of found.filter(({ reserved }) => !reserved)) {
      log.error({ orderNo, entryId }, 'an outbox entry names an order that Redis does not have');
      await orders.parkOutboxEntry(entryId, `no order ${orderNo} in Redis`);
      await outbox.acknowledge([entryId]);
    }
    return found.flatMap(({ entryId, reserved }) => (reserved ? [{ entryId, ...reserved }] : []));
  }

  /** Starts the orders' workflows; answers those for which it did not work. */
  async function start(admitted: readonly Accepted[]): Promise<Accepted[]> {
    const ended = new Set<Accepted>();
    const started = await gate.run(admitted, orderNoOf, async (entry) => {
      if ((await engine.start(entry.order)) === 'ended') ended.add(entry);
    });
    await outbox.acknowledge(started.filter((entry) => !ended.has(entry)).map(({ entryId }) => entryId));
    await settleEndedWorkflows([...ended]);
    return admitted.filter((entry) => !started.includes(entry));
  }

  /**
   * The workflow is over, and most likely stored the order itself. If it did not, say because it was terminated, or because the
   * order was reserved again after every store had lost it, nobody else will: it is stored here, or given up.
   */
  async function settleEndedWorkflows(ended: readonly Accepted[]): Promise<void> {
    for (const refused of await storeAhead(ended)) {
      const why = await abandonRefused(refused);
      if (why !== undefined) {
        await orders.parkOutboxEntry(
          refused.entryId,
          `the workflow of ${refused.order.orderNo} has ended, and MySQL refuses the order: ${why}`,
        );
      }
      await outbox.acknowledge([refused.entryId]);
    }
  }

  /** Answers why it is left to a person; undefined: its stock is back. */
  async function abandonRefused({ order, state, reason }: Refused): Promise<string | undefined> {
    // Its goods may be on their way: they are not offered again.
    if (state.status === 'paid') return `${reason}, and it was paid`;
    try {
      await abandonOrder({ orders, reservations }, order, reason);
      return undefined;
    } catch (error) {
      // Only what MySQL says about this very order: it would say so again, and hold up the others.
      if (!isInvalidValue(error)) throw error;
      return `${reason}, and ${String(error)}`;
    }
  }

  /**
   * Stores the orders; answers those that MySQL refuses: their own workflows are to meet the refusal and give the stock back.
   * @throws when the store as a whole is unavailable
   */
  async function storeAhead(accepted: readonly Accepted[]): Promise<Refused[]> {
    if (accepted.length === 0) return [];
    const outcomes = await orders.storeOrders(
      accepted.map(({ order }) => order),
      'due',
    );
    const durable: string[] = [];
    const refused: Refused[] = [];
    await Promise.all(
      accepted.map(async (entry) => {
        const { orderNo } = entry.order;
        const outcome = outcomes.get(orderNo);
        if (!outcome) throw new Error(`no outcome for order ${orderNo}`);
        if (outcome.kind === 'refused') {
          refused.push({ ...entry, reason: outcome.reason });
          return;
        }
        // Whoever gave it up may have died before its stock was back.
        await projectAndRelease({ reservations }, orderNo, outcome.state);
        durable.push(entry.entryId);
      }),
    );
    await outbox.acknowledge(durable);
    return refused;
  }

  /** Entries that are left over must not keep new ones waiting: both are read in turn. */
  async function read(isRepeat: boolean): Promise<OutboxEntry[]> {
    if (isRepeat) return outbox.readPending(READ_MAX, pending.afterId);
    return outbox.readNew(READ_MAX, Math.max(1, Math.min(BLOCK_MS, pending.dueMs - Date.now())));
  }

  /** Answers those that are not durable yet. */
  async function handle(entries: readonly OutboxEntry[]): Promise<Accepted[]> {
    const accepted = await readAccepted(entries);
    const admitted = await gate.admit(accepted, orderNoOf);
    // Side by side: when Temporal does not answer, the overflow must not wait for it.
    const [notStarted, notStored] = await Promise.all([
      start(admitted),
      storeAhead(accepted.filter((entry) => !admitted.includes(entry))),
    ]);
    return [...notStored, ...(await storeAhead(notStarted))];
  }

  return async function pass(): Promise<number> {
    await maintain();
    const before = pending;
    const isRepeat = Date.now() >= before.dueMs;
    const entries = await read(isRepeat).catch((error: unknown) => {
      // The answer may have been lost on the way: then the entries are ours, and pending.
      pending = { dueMs: 0, afterId: START, isLeft: false };
      throw error;
    });
    pending = { dueMs: 0, afterId: START, isLeft: false };
    const left = await handle(entries);
    pending = isRepeat ? afterRepeat(before, entries, left.length > 0) : afterNews(before, left.length > 0);
    return 0;
  };
}

function afterNews(before: Pending, isLeft: boolean): Pending {
  return isLeft ? { ...before, dueMs: Math.min(before.dueMs, Date.now() + RETRY_PAUSE_MS) } : before;
}

/** A full page is followed by the next one; after the last, what is left comes again in a while. */
function afterRepeat(before: Pending, entries: readonly OutboxEntry[], isLeftNow: boolean): Pending {
  const isLeft = before.isLeft || isLeftNow;
  const last = entries.at(-1);
  if (last && entries.length === READ_MAX) return { dueMs: 0, afterId: last.entryId, isLeft };
  return { dueMs: isLeft ? Date.now() + RETRY_PAUSE_MS : Infinity, afterId: START, isLeft: false };
}
