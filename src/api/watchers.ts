/**
 * Callers that wait for changes of orders: long polls and event streams. A message of Redis says which orders
 * have changed, and those alone are looked up, as a GET looks them up. Each watched order is looked up now
 * and then as well, for messages that were missed.
 */

import type { Logger } from 'pino';
import type { Clock } from '../clock.ts';
import { WATCHERS_AT_ONCE, WATCHERS_OF_USER } from '../limits.ts';
import type { Metrics, WatcherKind, WatcherLimit } from '../metrics.ts';
import { listenToChanges } from '../orders/changes.redis.ts';
import { parseOrderNo } from '../orders/order.ts';
import { formatSaleShard, parseSaleShard } from '../redis/keys.ts';
import { findOrder, type Finder, type FoundOrder } from './calls/find-order.ts';
import { orderNotFound, Problem } from './http/problem.ts';

/**
 * Orders that are looked up at once: two calls to Redis, and not more than MySQL's connections could serve
 * while Redis is away.
 */
const LOOKS_AT_ONCE = 32;
/** How often due looks are begun, and streams may write a sign of life. */
const TICK_MS = 500;
/** A call that came to a full house comes back after so long; others leave by the second. */
const RETRY_SECONDS = 2;

export interface WatcherBounds {
  /** Callers that wait in this process. */
  watchersMax: number;
  /** Of one user. */
  watchersPerUserMax: number;
  /** Each watched order is looked up after so long, give or take a fifth, where no message says sooner. */
  lookEveryMs: number;
  /** A sale that was watched is listened to for so long after its last watcher has gone. */
  lingerMs: number;
}

/** What each of them is unless set. */
export const WATCHER_BOUNDS: WatcherBounds = {
  watchersMax: WATCHERS_AT_ONCE,
  watchersPerUserMax: WATCHERS_OF_USER,
  lookEveryMs: 10_000,
  lingerMs: 60_000,
};

/** Why a caller waits no longer. gone: there is no such order of the user any more. */
export type WatchEnd = 'gone' | 'stopping';

export interface Watcher {
  /** Each newer state than the caller has, in order; some may be left out. */
  tell: (found: FoundOrder) => void;
  end: (why: WatchEnd) => void;
  /** About twice a second. */
  tick?: (nowMs: number) => void;
}

interface Caller {
  userId: string;
  requestId: string;
}

interface Waiting extends Caller {
  watcher: Watcher;
  /** What the caller has; undefined while its first look is under way. */
  version: number | undefined;
  /** The order may have changed since that look began. */
  isStale: boolean;
}

/** An order, and who waits for it. */
interface Watched {
  shard: string;
  waiting: Set<Waiting>;
  nextLookMs: number;
}

/** The place of a caller. */
export interface Watch {
  /** The caller has this version: from now on it is told of newer ones, unless it has left. */
  begin: (version: number) => void;
  /** May be called more than once. */
  leave: () => void;
}

export type Watchers = ReturnType<typeof createWatchers>;

export function createWatchers(
  finder: Finder,
  { bounds, clock, metrics, log }: { bounds: WatcherBounds; clock: Clock; metrics: Metrics; log: Logger },
) {
  /** By their numbers. */
  const orders = new Map<string, Watched>();
  /** The numbers of those, by their sale shards. */
  const ofShards = new Map<string, Set<string>>();
  const ofUsers = new Map<string, number>();
  /** Until when each sale shard is listened to: without an end while one of its orders is watched. */
  const listening = new Map<string, number>();
  /** To be looked up, the first first. */
  const due = new Set<string>();
  let count = 0;
  let looking = 0;
  let isStopped = false;
  let timer: NodeJS.Timeout | undefined;

  const changes = listenToChanges(
    finder.redis,
    {
      changed: (orderNos) => orderNos.forEach(lookSoon),
      subscribed(shard) {
        ofShards.get(formatSaleShard(shard))?.forEach(lookSoon);
      },
    },
    log,
  );

  function lookSoon(orderNo: string): void {
    const watched = orders.get(orderNo);
    if (!watched) return;
    for (const waiting of watched.waiting) waiting.isStale = true;
    due.add(orderNo);
    lookOn();
  }

  function lookOn(): void {
    for (const orderNo of due) {
      if (looking >= LOOKS_AT_ONCE) return;
      due.delete(orderNo);
      looking += 1;
      void look(orderNo).finally(() => {
        looking -= 1;
        lookOn();
      });
    }
  }

  /** Never rejects: what cannot be read now is read with the next look. */
  async function look(orderNo: string): Promise<void> {
    const watched = orders.get(orderNo);
    if (!watched) return;
    watched.nextLookMs = nextLook();
    // Those of one order are of one user: each has found it.
    const begun = [...watched.waiting].filter((waiting) => waiting.version !== undefined);
    const [first] = begun;
    if (!first) return;
    for (const waiting of begun) waiting.isStale = false;
    const knownVersion = Math.max(...begun.map(({ version = 0 }) => version));
    try {
      const found = await findOrder(finder, orderNo, { ...caller(first), knownVersion });
      for (const waiting of watched.waiting) {
        if (waiting.version === undefined || waiting.version >= found.state.version) continue;
        waiting.version = found.state.version;
        waiting.watcher.tell(found);
      }
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 404) return;
      for (const waiting of begun) waiting.watcher.end('gone');
    }
  }

  function nextLook(): number {
    return clock.nowMs() + bounds.lookEveryMs * (0.8 + 0.4 * Math.random());
  }

  function tick(): void {
    const nowMs = clock.nowMs();
    for (const [orderNo, watched] of orders) {
      if (watched.nextLookMs <= nowMs) due.add(orderNo);
      for (const { watcher } of watched.waiting) watcher.tick?.(nowMs);
    }
    lookOn();
    for (const [shard, untilMs] of listening) {
      if (untilMs > nowMs) continue;
      listening.delete(shard);
      const parts = parseSaleShard(shard);
      if (parts) changes.unfollow(parts);
    }
  }

  function refuse(limit: WatcherLimit): Problem {
    metrics.watcherRefused(limit);
    const retryAfterSeconds = RETRY_SECONDS;
    return limit === 'user'
      ? new Problem('too_many_watchers', {
          retryAfterSeconds,
        })
      : new Problem('watchers_full', {
          retryAfterSeconds,
        });
  }

  function watchOrder(orderNo: string, shard: string): Watched {
    const watched: Watched = { shard, waiting: new Set(), nextLookMs: nextLook() };
    orders.set(orderNo, watched);
    const ofShard = ofShards.get(shard);
    if (ofShard) ofShard.add(orderNo);
    else ofShards.set(shard, new Set([orderNo]));
    return watched;
  }

  function leaveOrder(orderNo: string, shard: string): void {
    orders.delete(orderNo);
    const ofShard = ofShards.get(shard);
    ofShard?.delete(orderNo);
    if (ofShard?.size !== 0) return;
    ofShards.delete(shard);
    if (listening.has(shard)) listening.set(shard, clock.nowMs() + bounds.lingerMs);
  }

  /**
   * Takes a place before the order is looked up, so that no change in between is missed.
   * @throws Problem when the user has too many or the process, and for what is no order number
   */
  function enter(kind: WatcherKind, orderNo: string, { userId, requestId }: Caller, watcher: Watcher): Watch {
    const parts = parseOrderNo(orderNo);
    if (!parts) throw orderNotFound();
    const ofUser = ofUsers.get(userId) ?? 0;
    if (ofUser >= bounds.watchersPerUserMax) throw refuse('user');
    if (count >= bounds.watchersMax || isStopped) throw refuse('all');
    timer ??= setInterval(tick, TICK_MS).unref();
    count += 1;
    ofUsers.set(userId, ofUser + 1);
    metrics.watching(kind, 1);
    const watched = orders.get(orderNo) ?? watchOrder(orderNo, formatSaleShard(parts));
    const waiting: Waiting = { userId, requestId, watcher, version: undefined, isStale: false };
    watched.waiting.add(waiting);

    return {
      begin(version) {
        if (!watched.waiting.has(waiting)) return;
        waiting.version = version;
        if (isStopped) {
          watcher.end('stopping');
          return;
        }
        listening.set(watched.shard, Infinity);
        changes.follow(parts);
        if (waiting.isStale) lookSoon(orderNo);
      },
      leave() {
        if (!watched.waiting.delete(waiting)) return;
        count -= 1;
        metrics.watching(kind, -1);
        if (watched.waiting.size === 0) leaveOrder(orderNo, watched.shard);
        const left = (ofUsers.get(userId) ?? 1) - 1;
        if (left === 0) ofUsers.delete(userId);
        else ofUsers.set(userId, left);
      },
    };
  }

  return {
    enter,
    /** Has all end at once, and no more come. */
    stop(): void {
      isStopped = true;
      clearInterval(timer);
      for (const { waiting } of orders.values()) for (const each of waiting) each.watcher.end('stopping');
      changes.close();
    },
  };
}

function caller({ userId, requestId }: Caller): Caller {
  return { userId, requestId };
}
