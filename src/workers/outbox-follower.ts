/**
 * Empties the outbox of one sale shard: starts the workflow of each accepted order while the engine has room,
 * and stores the others ahead in MySQL. Only then an entry is acknowledged; one that could be neither started
 * nor stored stays and is repeated.
 */

import type { Logger } from 'pino';
import { ZodError } from 'zod';
import { parseOrderNo, type FailureReason } from '../domain/order.ts';
import type { OrderEngine } from '../engine/order-engine.ts';
import { isInvalidValue } from '../stores/mysql/connection.ts';
import type { Orders } from '../stores/mysql/orders/orders.ts';
import type { Outbox, OutboxEntry } from '../stores/redis/outbox.ts';
import type { Reservations, ReservedOrder } from '../stores/redis/reservations.ts';
import { abandonOrder, projectAndRelease } from './abandon.ts';
import type { EngineGate } from './engine-gate.ts';
import { createOutboxPages, PAGE_SIZE } from './outbox-pages.ts';

/** A consumer that has not touched an entry for so long is dead: a living one retries every few seconds. */
const DEAD_AFTER_MS = 30_000;
const MAINTENANCE_EVERY_MS = 10_000;
/** A consumer that has been idle for so long belongs to a relay that has ended, and is removed. */
const CONSUMER_IDLE_MS = 10 * 60_000;

export interface FollowerDeps {
  outbox: Outbox;
  reservations: Pick<Reservations, 'readOrder' | 'project' | 'release'>;
  orders: Pick<Orders, 'storeOrders' | 'abandon' | 'parkOutboxEntry'>;
  engine: Pick<OrderEngine, 'start'>;
  gate: EngineGate;
  log: Logger;
}

/** An outbox entry with its order as Redis has it. */
interface Accepted extends ReservedOrder {
  entryId: string;
}

/** An order that MySQL can never store. */
interface Refused extends Accepted {
  reason: FailureReason;
}

const orderNoOf = ({ order }: Accepted): string => order.orderNo;

/** @returns one pass of the follower's loop; the pass returns the pause before the next, in ms */
export function createOutboxFollower({ outbox, reservations, orders, engine, gate, log }: FollowerDeps) {
  const pages = createOutboxPages(outbox);
  let maintainedAtMs = 0;

  /** Takes over the entries of dead consumers, and removes consumers that are gone. */
  async function maintain(): Promise<void> {
    if (Date.now() - maintainedAtMs < MAINTENANCE_EVERY_MS) return;
    const claimed = await outbox.claimAbandoned(PAGE_SIZE, DEAD_AFTER_MS);
    if (claimed > 0) {
      log.warn({ claimed }, 'claimed the outbox entries of a relay that is gone');
      pages.restart();
    }
    await outbox.removeIdleConsumers(CONSUMER_IDLE_MS);
    maintainedAtMs = Date.now();
  }

  /** Undefined when the entry names no order, or an order that Redis lacks or has only in part. */
  async function readOrder({ orderNo }: OutboxEntry): Promise<ReservedOrder | undefined> {
    if (!parseOrderNo(orderNo)) return undefined;
    try {
      return await reservations.readOrder(orderNo);
    } catch (error) {
      if (error instanceof ZodError) return undefined;
      throw error;
    }
  }

  /**
   * Parks entries whose order cannot be read, and acknowledges them, so that they do not delay the others.
   */
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

  /** Starts the orders' workflows; returns the orders whose start failed. */
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
   * Stores or abandons orders whose workflow has ended. Usually the workflow stored the order itself. It did
   * not when it was terminated, or when the order was reserved again after every store had lost it, and then
   * no other process stores the order.
   */
  async function settleEndedWorkflows(ended: readonly Accepted[]): Promise<void> {
    for (const refused of await storeAhead(ended)) {
      const parkReason = await abandonRefused(refused);
      if (parkReason !== undefined) {
        await orders.parkOutboxEntry(
          refused.entryId,
          `the workflow of ${refused.order.orderNo} has ended, and MySQL refuses the order: ${parkReason}`,
        );
      }
      await outbox.acknowledge([refused.entryId]);
    }
  }

  /** Returns why the order is to be parked; undefined: it is abandoned and its stock is released. */
  async function abandonRefused({ order, state, reason }: Refused): Promise<string | undefined> {
    // The units of a paid order are not released, because the goods may be on their way.
    if (state.status === 'paid') return `${reason}, and it was paid`;
    try {
      await abandonOrder({ orders, reservations }, order, reason);
      return undefined;
    } catch (error) {
      // MySQL refuses the values of this very order. A repeat would fail too, and delay the other entries.
      if (!isInvalidValue(error)) throw error;
      return `${reason}, and ${String(error)}`;
    }
  }

  /**
   * Stores the orders, projects their states and acknowledges their entries.
   * @returns the orders that MySQL refuses: their own workflows will get the refusal and release the stock
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
        // The process that abandoned the order may have died before it released the stock.
        await projectAndRelease({ reservations }, orderNo, outcome.state);
        durable.push(entry.entryId);
      }),
    );
    await outbox.acknowledge(durable);
    return refused;
  }

  /** @returns the orders that are neither started nor stored */
  async function startOrStore(entries: readonly OutboxEntry[]): Promise<Accepted[]> {
    const accepted = await readAccepted(entries);
    const admitted = await gate.admit(accepted, orderNoOf);
    // Both run at once, so that storing the overflow does not wait for a Temporal that does not answer.
    const [notStarted, notStored] = await Promise.all([
      start(admitted),
      storeAhead(accepted.filter((entry) => !admitted.includes(entry))),
    ]);
    return [...notStored, ...(await storeAhead(notStarted))];
  }

  return async function pass(): Promise<number> {
    await maintain();
    const { entries, finish } = await pages.read();
    const left = await startOrStore(entries);
    finish(left.length > 0);
    return 0;
  };
}
