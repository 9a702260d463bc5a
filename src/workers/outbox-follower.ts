/**
 * Empties the outbox of one sale shard, page by page: starts the workflow of each accepted order while the
 * engine has room, and stores the others ahead in MySQL. In a burst all are stored ahead. Only then an entry
 * is acknowledged; one that could be neither started nor stored stays and is repeated.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Outbox, OutboxEntry } from '../stores/redis/outbox.ts';
import type { Burst } from './burst.ts';
import { STALL_MS } from './engine-gate.ts';
import { backoffMs } from './loop.ts';
import { createOutboxPages, PAGE_SIZE, type OutboxPage } from './outbox-pages.ts';
import { orderNoOf, readAccepted, type Accepted, type ReadDeps } from './read-accepted.ts';
import { startAccepted, type StartDeps } from './start-accepted.ts';
import { storeAhead } from './store-ahead.ts';

/** A consumer that has not touched an entry for so long is dead: a living one retries every few seconds. */
const DEAD_AFTER_MS = 30_000;
const MAINTENANCE_EVERY_MS = 10_000;
/** A consumer that has been idle for so long belongs to a relay that has ended, and is removed. */
const CONSUMER_IDLE_MS = 10 * 60_000;
/** One page is read, one is stored and one is acknowledged; more would only wait here instead of in Redis. */
const PAGES_UNDER_WAY_MAX = 3;
/** In a burst a page that is not full waits so long for more, so that its transaction is worth its commit. */
const FILL_PAUSE_MS = 20;

export interface FollowerDeps extends Omit<StartDeps, 'outbox' | 'reservations' | 'orders'> {
  outbox: Outbox;
  reservations: ReadDeps['reservations'] & StartDeps['reservations'];
  orders: ReadDeps['orders'] & StartDeps['orders'];
  burst: Burst;
  log: Logger;
}

export function createOutboxFollower(deps: FollowerDeps) {
  const { outbox, gate, burst, log } = deps;
  const pages = createOutboxPages(outbox);
  const underWay = new Set<Promise<void>>();
  /** Starts that their page no longer waits for. */
  const lateStarts = new Set<Promise<void>>();
  let maintainedAtMs = 0;
  let failures = 0;
  let pausedUntilMs = 0;

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

  /**
   * Storing must not wait for a Temporal that does not answer: orders whose start takes too long are stored
   * ahead as well. Either way may be the first, as each finds what the other did.
   * @returns the orders that are not started, as far as is known
   */
  async function startInTime(admitted: readonly Accepted[]): Promise<readonly Accepted[]> {
    const starting = startAccepted(deps, admitted);
    const gaveUp = new AbortController();
    const late = delay(STALL_MS, 'late' as const, { signal: gaveUp.signal });
    late.catch(() => {});
    const outcome = await Promise.race([starting, late]);
    gaveUp.abort();
    if (outcome !== 'late') return outcome;
    const settled = finishLate(starting).finally(() => lateStarts.delete(settled));
    lateStarts.add(settled);
    return admitted;
  }

  async function finishLate(starting: Promise<unknown>): Promise<void> {
    try {
      await starting;
    } catch (error) {
      log.warn({ err: error }, 'orders that were stored ahead could not be started either');
    }
  }

  /** @returns whether orders are left that are neither started nor stored */
  async function startOrStore(entries: readonly OutboxEntry[]): Promise<boolean> {
    const accepted = await readAccepted(deps, entries);
    // While MySQL fails, the engine takes what it can also in a burst.
    const engineWaits = burst.isOn() && failures === 0;
    const admitted = engineWaits ? [] : await gate.admit(accepted, orderNoOf);
    const overflow = admitted.length === 0 ? accepted : accepted.filter((entry) => !admitted.includes(entry));
    const [notStarted, refused] = await Promise.all([startInTime(admitted), storeAhead(deps, overflow)]);
    return [...refused, ...(await storeAhead(deps, notStarted))].length > 0;
  }

  async function handle({ entries, finish }: OutboxPage): Promise<void> {
    try {
      finish(await startOrStore(entries));
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
      await maintain();
      while (underWay.size >= PAGES_UNDER_WAY_MAX) await Promise.race(underWay);
      const pauseMs = pausedUntilMs - Date.now();
      if (pauseMs > 0) return pauseMs;
      const page = await pages.read();
      burst.note(page.entries.length);
      const handling = handle(page).finally(() => underWay.delete(handling));
      underWay.add(handling);
      return burst.isOn() && page.entries.length < PAGE_SIZE ? FILL_PAUSE_MS : 0;
    },

    /** Waits for what is under way. */
    async drain(): Promise<void> {
      await Promise.all([...underWay, ...lateStarts]);
      await Promise.all(lateStarts);
    },
  };
}
