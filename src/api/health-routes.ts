/** /healthz: this process lives. /readyz: it can take orders. /metrics: its counters. */

import type { Context } from 'koa';
import { z } from 'zod';
import type { ReadableMetrics } from '../metrics.ts';
import { isTakingWrites } from '../mysql/connection.ts';
import { takesWrites } from '../redis/connection.ts';
import type { StatusBoard } from '../status/board.ts';
import { stateOf } from '../status/status.ts';
import type { Stores } from '../stores/open.ts';

export const healthReply = z.strictObject({ status: z.literal('ok') });
type HealthReply = z.infer<typeof healthReply>;

const upOrDown = z.enum(['up', 'down']);

export const readyReply = z.strictObject({
  status: z.enum(['ready', 'not_ready']),
  redis: upOrDown,
  mysql: upOrDown,
  /** Workers that live; null: not known. */
  workers: z.int().min(0).nullable(),
});
type ReadyReply = z.infer<typeof readyReply>;

/** A store that needs longer is as good as away. In ms. */
const PROBE_TIMEOUT_MS = 1_000;
/** Anyone may ask as often as they like: the stores are asked five times a second at most. */
const PROBE_EVERY_MS = 200;

export interface HealthDeps extends Stores {
  statusBoard: Pick<StatusBoard, 'all'>;
  metrics: ReadableMetrics;
  /** True once the process is stopping: it should get no new requests. */
  isStopping: () => boolean;
}

export function createHealthRoutes({ redis, pool, metrics, statusBoard, isStopping }: HealthDeps) {
  let latest: Promise<[boolean, boolean]> | undefined;

  /** One look at the stores for all who ask while it is under way, and shortly after. */
  function look(): Promise<[boolean, boolean]> {
    latest ??= Promise.all([isUp(takesWrites(redis)), isTakingWrites(pool, PROBE_TIMEOUT_MS / 2)]).finally(
      () => {
        setTimeout(() => (latest = undefined), PROBE_EVERY_MS).unref();
      },
    );
    return latest;
  }

  return {
    healthz(ctx: Context): void {
      ctx.body = { status: 'ok' } satisfies HealthReply;
    },

    /** Selling needs Redis alone, so only Redis decides; MySQL and the workers are shown beside it. */
    async readyz(ctx: Context): Promise<void> {
      const [redisUp, mysqlUp] = await look();
      const ready = redisUp && !isStopping();
      const { workers } = statusBoard.all();
      ctx.status = ready ? 200 : 503;
      ctx.body = {
        status: ready ? 'ready' : 'not_ready',
        redis: redisUp ? 'up' : 'down',
        mysql: mysqlUp ? 'up' : 'down',
        workers: workers?.filter((worker) => stateOf(worker) !== 'silent').length ?? null,
      } satisfies ReadyReply;
    },

    /** From this process's memory alone, so it is answered while any store is away. */
    async metrics(ctx: Context): Promise<void> {
      ctx.set('Content-Type', metrics.contentType);
      ctx.body = await metrics.read();
    },
  };
}

async function isUp(probe: Promise<boolean>): Promise<boolean> {
  const timeout = new Promise<false>((resolve) => {
    setTimeout(resolve, PROBE_TIMEOUT_MS, false).unref();
  });
  return Promise.race([probe.catch(() => false), timeout]);
}
