/**
 * Empties the outbox of one sale shard, page by page: stores the accepted orders in MySQL, and starts their
 * workflows as far as the engine has room. The others are due in MySQL; in a burst, that is all of them. An
 * order that cannot be stored is left to its workflow. An entry is acknowledged once its order is stored or
 * started; before that it stays and is repeated.
 */

import type { Stores } from '../stores/open.ts';
import type { Outbox, OutboxEntry } from '../stores/redis/outbox.ts';
import type { Burst } from './burst.ts';
import { backoffMs } from './loop.ts';
import { createOutboxPages, PAGE_SIZE, type OutboxPage } from './outbox-pages.ts';
import { orderNoOf, readAccepted } from './read-accepted.ts';
import { startStored, startUnstored, type StartDeps } from './start-accepted.ts';
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

export interface FollowerDeps extends Stores, Omit<StartDeps, 'outbox' | 'reservations' | 'orders'> {
  outbox: Outbox;

  burst: Burst;
}

export function createOutboxFollower(deps: FollowerDeps) {
  const { outbox, gate, burst, log } = deps;
  const pages = createOutboxPages(outbox);
  const underWay = new Set<Promise<void>>();
  /** At most as many starts as the engine budget has slots. */
  const starting = new Set<Promise<void>>();
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
    const engineWaits = burst.isOn() && failures === 0;
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

    /** Has what was read and not acknowledged read again, as after Redis was away: it may be another one. */
    restart: (): void => pages.restart(),

    /** Waits for what is under way. */
    async drain(): Promise<void> {
      await Promise.all(underWay);
      await Promise.all(starting);
    },
  };
}
