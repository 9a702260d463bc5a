/**
 * The relay: runs the background loops beside the Temporal worker. They follow the outbox of every sale, and
 * start or signal due workflows.
 */

import type { OrderEngine } from '../engine/order-engine.ts';
import { formatSaleShard, wholeSale, type SaleShard } from '../redis/keys.ts';
import { createOutbox, findActive, listSales, registerSales } from '../redis/outbox.ts';
import { IN_REDIS_PAGE } from '../sales/sale.ts';
import { BEAT_EVERY_MS } from '../status/status.ts';
import type { Stores } from '../stores/open.ts';
import { limitInTurns } from '../turns.ts';
import { createLivingWorkers } from './living-workers.ts';
import { runLoop, type LoopWatch } from './loop.ts';
import { createBurst } from './outbox-follower.ts';
import { createOutboxFollower } from './outbox-follower.ts';
import { createEngineGate, createStarter, startDueRefunds } from './starter.ts';

/** How soon a new sale is noticed. */
const SURVEY_EVERY_MS = 1_000;

export interface RelayDeps extends Stores {
  watch?: LoopWatch;
  /** As in its beats: what it has read of an outbox belongs to this name. */
  workerId: string;
  /** Entries of a page of an outbox. */
  outboxPage: number;
  /** Store transactions at once, over all sales. Sales take turns. */
  storesAtOnce: number;
  engine: Pick<
    OrderEngine,
    'start' | 'signalCancelRequested' | 'signalEnded' | 'startRefund' | 'startCallOff'
  >;
}

/** Runs until `signal` aborts and the passes under way are finished. */
export async function runRelay(deps: RelayDeps, signal: AbortSignal): Promise<void> {
  const { redis, log, watch } = deps;
  const living = createLivingWorkers();
  const gate = createEngineGate(deps.budget, log);
  const burst = createBurst();
  const storeInTurn = limitInTurns(deps.storesAtOnce);
  const followers = new Map<string, Follower>();

  async function follow(saleShard: SaleShard, until: AbortSignal): Promise<void> {
    const blocking = await deps.connectBlocking();
    try {
      const outbox = createOutbox(redis, blocking, saleShard, deps.workerId);
      const bound = log.child({ sale: saleShard.saleId });
      const follower = createOutboxFollower({
        ...deps,
        outbox,
        saleId: saleShard.saleId,
        gate,
        burst,
        living,
        storing: (work) => storeInTurn(saleShard.saleId, work),
        // Not `until`: a Redis that has lost its data knows no sales for a moment.
        stopping: signal,
        log: bound,
      });
      // Of a cluster one node may be another from now on, while the connection to the others goes on.
      blocking.on('close', follower.restart).on('+node', follower.restart);
      await runLoop('outbox', follower.pass, { log: bound, signal: until, watch });
      await follower.drain();
    } finally {
      blocking.disconnect();
    }
  }

  function startFollowing(name: string, saleShard: SaleShard): void {
    const stop = new AbortController();
    const done = follow(saleShard, AbortSignal.any([signal, stop.signal]))
      // The connection failed, as the loop itself never throws. The next survey tries again.
      .catch((error: unknown) => log.warn({ err: error, sale: saleShard.saleId }, 'cannot follow the outbox'))
      .finally(() => followers.delete(name));
    followers.set(name, { saleShard, stop, done });
  }

  /** Undefined: the list cannot be read. It may be damaged, or on a node of a cluster that is away. */
  async function readList(): Promise<SaleShard[] | undefined> {
    try {
      return await listSales(redis);
    } catch (error) {
      log.warn({ err: error }, 'the list of sales in Redis cannot be read');
      return undefined;
    }
  }

  let lastId = '';

  /** A page of the sales that MySQL knows to be in Redis and that are not on its list; now they are. */
  async function findUnlisted(listed: readonly SaleShard[]): Promise<SaleShard[]> {
    const page = await deps.sales.listInRedis(lastId);
    lastId = page.length === IN_REDIS_PAGE ? (page.at(-1) ?? '') : '';
    const names = new Set(listed.map(formatSaleShard));
    const unlisted = page.map(wholeSale).filter((shard) => !names.has(formatSaleShard(shard)));
    if (unlisted.length === 0) return [];
    try {
      const added = await registerSales(redis, unlisted);
      if (added.length > 0)
        log.error({ sales: added }, 'the list of sales in Redis had lost sales: they are on it again');
    } catch (error) {
      log.warn({ err: error }, 'the list of sales in Redis cannot be written');
    }
    return unlisted;
  }

  /**
   * Follows new sales and stops following ended ones. A sale is followed that Redis has on its list, that
   * MySQL knows, or that was followed before and is not over: each of the three may be lost or away.
   */
  async function survey(): Promise<number> {
    const listed = await readList();
    const names = new Set(listed?.map(formatSaleShard));
    const followed = [...followers].flatMap(([name, { saleShard }]) => (names.has(name) ? [] : [saleShard]));
    const active = new Map<string, SaleShard>();
    const add = (sales: readonly SaleShard[]) => {
      for (const sale of sales) active.set(formatSaleShard(sale), sale);
      for (const [name, shard] of active) if (!followers.has(name)) startFollowing(name, shard);
    };
    add(
      await findActive(redis, [...(listed ?? []), ...followed], (shard) => names.has(formatSaleShard(shard))),
    );
    const unlisted = await findUnlisted(listed ?? []).catch((error: unknown) => {
      // With MySQL away the list is enough; the starter fails as well, and is logged.
      if (!listed) throw error;
      return [];
    });
    add(await findActive(redis, unlisted));
    for (const [name, { stop }] of followers) if (!active.has(name)) stop.abort();
    return SURVEY_EVERY_MS;
  }

  async function readBeats(): Promise<number> {
    const { nowMs, workers } = await deps.redisStatus.readWorkers();
    living.read(nowMs, workers);
    return BEAT_EVERY_MS;
  }

  await Promise.all([
    runLoop('survey', survey, { log, signal, watch }),
    runLoop('beats', readBeats, { log, signal, watch }),
    runLoop('starter', createStarter({ ...deps, gate, burst }), { log, signal, watch }),
    runLoop('refunds', () => startDueRefunds({ ...deps, gate }), { log, signal, watch }),
  ]);
  await Promise.all([...followers.values()].map(({ done }) => done));
}

interface Follower {
  saleShard: SaleShard;
  stop: AbortController;
  done: Promise<void>;
}
