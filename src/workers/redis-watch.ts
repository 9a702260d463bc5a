/**
 * Watches that Redis has the data of every sale, as this very server was given them, and makes them again
 * where it has not: after a loss, a restore of an old file, a restart or a failover.
 */

import { rebuildSale, type RebuildCause, type RebuildDeps } from '../reconcile/rebuild-sale.ts';
import type { WatchedSale } from '../reconcile/rebuild.sql.ts';
import type { SaleLife } from '../sales/stock.redis.ts';
import { backoffMs, runLoop, type LoopWatch } from './loop.ts';

/** A sale that waits to be made again sells nothing, and a look is a query and a script for each sale. */
const LOOK_EVERY_MS = 1_000;
/** While sales wait for others to be made again. */
const LOOK_SOON_MS = 100;

/**
 * Sales made again at once. Each keeps a connection to MySQL all the while, and those that store orders and
 * answer shoppers need the others.
 */
const REBUILDS_MAX = 4;

export type RedisWatchDeps = Omit<RebuildDeps, 'signal'> & { watch?: LoopWatch };

/** Runs until `signal` aborts and the rebuilds under way have ended. */
export async function runRedisWatch(deps: RedisWatchDeps, signal: AbortSignal): Promise<void> {
  const { saleEpochs, saleStock, log, watch } = deps;
  const underWay = new Map<string, Promise<void>>();
  const failures = new Map<string, { count: number; pausedUntilMs: number }>();

  let rebuilds = 0;
  let isPutOff = false;

  async function look(sale: WatchedSale): Promise<void> {
    const cause = causeOf(sale, await saleStock.checkLife(sale.saleId));
    if (cause === undefined) return;
    // A later pass looks anew: another process may have done it by then.
    if (rebuilds >= REBUILDS_MAX) {
      isPutOff = true;
      return;
    }
    rebuilds += 1;
    try {
      const rebuild = () => rebuildSale({ ...deps, signal }, sale.saleId, { cause });
      await (watch ? watch.during('rebuild', rebuild) : rebuild());
    } finally {
      rebuilds -= 1;
    }
  }

  /** One sale that fails delays no other. */
  function start({ saleId, ...sale }: WatchedSale): void {
    const looking = look({ saleId, ...sale })
      .then(() => void failures.delete(saleId))
      .catch((error: unknown) => {
        const count = failures.get(saleId)?.count ?? 0;
        failures.set(saleId, { count: count + 1, pausedUntilMs: Date.now() + backoffMs(count) });
        if (!signal.aborted)
          log.warn({ err: error, saleId }, 'the data of a sale could not be made again yet');
      })
      .finally(() => underWay.delete(saleId));
    underWay.set(saleId, looking);
  }

  async function pass(): Promise<number> {
    for (const sale of await saleEpochs.listWatched()) {
      const isPaused = (failures.get(sale.saleId)?.pausedUntilMs ?? 0) > Date.now();
      if (!underWay.has(sale.saleId) && !isPaused) start(sale);
    }
    const pauseMs = isPutOff ? LOOK_SOON_MS : LOOK_EVERY_MS;
    isPutOff = false;
    return pauseMs;
  }

  await runLoop('redis watch', pass, { log, signal, watch });
  await Promise.all(underWay.values());
}

/** Why the sale is to be made again; undefined: it is well. */
function causeOf({ epoch, isRebuilding }: WatchedSale, life: SaleLife): RebuildCause | undefined {
  if (life.kind === 'sale-absent') return isRebuilding ? 'unfinished' : 'lost';
  if (life.kind === 'replaced' || life.kind === 'damaged') return life.kind;
  if (isRebuilding || life.kind === 'suspended') return 'unfinished';
  return life.epoch === epoch ? undefined : 'epochs_differ';
}
