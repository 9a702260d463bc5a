/**
 * Whether Redis and MySQL belong together. MySQL's schema has a random id, the deployment's; Redis carries it
 * beside a random id of its own data, which MySQL notes. So no process sells by the Redis of another
 * deployment, nor by a second one of its own while the first is in use.
 */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { showDeployment, STORES_FORMAT, WrongDeploymentError, type Deployment } from '../deployment.ts';
import { readFeed } from '../events/events.sql.ts';
import { read as readFeedMark } from '../events/marks.redis.ts';
import type { Pool } from '../mysql/connection.ts';
import type { RedisClient } from '../redis/connection.ts';
import { listMarkedSales, readMark, writeMark, type DeploymentMark } from './deployment.redis.ts';
import {
  confirmRedis,
  findUnknownSales,
  readDeployment,
  readFormat,
  replaceRedis,
  writeName,
  type DeploymentRecord,
} from './deployment.sql.ts';

/**
 * Each process that runs confirms the noted Redis so often; it costs a read of each store, and one of them
 * all a write a second.
 */
const KEEP_EVERY_MS = 2_000;
/** After a failure, such as of a MySQL that is away. */
const RETRY_AFTER_MS = 1_000;
const LOOK_AGAIN_MS = 250;
/**
 * A noted Redis that no process has confirmed for so long is gone: some rounds of those that run, and more
 * than one of them waits for a MySQL that hangs.
 */
const WATCH_MS = 15_000;

const ELSEWHERE =
  'Give this deployment a REDIS_KEY_PREFIX of its own or another REDIS_URL; where its MySQL is the wrong one, another MYSQL_URL';

type Look = 'ours' | 'watching';

/** Another Redis than this one is noted: how it looked at first. */
interface Watched {
  redisId: string | null;
  redisSeenAt: Date | null;
  /** By MySQL's clock, after this Redis was read. */
  from: Date;
  /** By this process' clock, which no one sets. */
  sinceMs: number;
}

export function createDeploymentStores(
  { redis, pool, name, log }: { redis: RedisClient; pool: Pool; name: string; log: Logger },
  watchMs = WATCH_MS,
) {
  let id: string | undefined;
  let watched: Watched | undefined;
  let wasOurs = false;

  async function look(): Promise<Look> {
    const record = await readRecord();
    const mark = await readMark(redis);
    assertOurs(record, mark);
    if (!mark && !wasOurs) await assertNoStranger();
    if (!mark || mark.redisId !== record.redisId) return take(record, mark);
    await confirmRedis(pool, mark.redisId, record.now);
    return settle(record);
  }

  async function settle(record: DeploymentRecord): Promise<Look> {
    if (!wasOurs && record.name !== name) await writeName(pool, name);
    watched = undefined;
    wasOurs = true;
    return 'ours';
  }

  /** While MySQL is away, Redis alone says which deployment this is. */
  async function readRecord(): Promise<DeploymentRecord> {
    const record = await readDeployment(pool).catch(async (error: unknown) => {
      // While no process can confirm its Redis, silence says nothing.
      watched = undefined;
      const mark = await readMark(redis);
      assertFormat('Redis', mark?.format);
      id ??= mark?.deploymentId;
      throw error;
    });
    assertFormat('MySQL', record.format);
    if (wasOurs && id !== record.id)
      throw new WrongDeploymentError(
        `MySQL has become that of another deployment, ${record.id} instead of ${id}. ${ELSEWHERE}.`,
      );
    return record;
  }

  function assertOurs(record: DeploymentRecord, mark: DeploymentMark | undefined): void {
    assertFormat('Redis', mark?.format);
    if (mark && mark.deploymentId !== record.id) {
      const theirs = showDeployment({ id: mark.deploymentId, name: mark.name });
      throw new WrongDeploymentError(
        `Redis belongs to another deployment, ${theirs}, than MySQL, ${showDeployment({ id: record.id, name })}. ${ELSEWHERE}.`,
      );
    }
    id = record.id;
  }

  /** Data without a mark are older than marks, or of a cluster that has lost the node of the mark. */
  async function assertNoStranger(): Promise<void> {
    const [stranger] = await findUnknownSales(pool, await listMarkedSales(redis));
    if (stranger === undefined) return;
    throw new WrongDeploymentError(
      `Redis does not say whose it is, and has a sale that MySQL does not know, ${stranger}. ${ELSEWHERE}.`,
    );
  }

  /** This Redis is marked, and noted as the one to sell by, unless another is noted and still in use. */
  async function take(record: DeploymentRecord, mark: DeploymentMark | undefined): Promise<Look> {
    let found: Pick<DeploymentRecord, 'redisId' | 'redisSeenAt'> = record;
    if (record.redisId !== null) {
      if (!isGone(await readDeployment(pool))) return 'watching';
      assert(watched, 'what is gone was watched');
      found = watched;
    }
    const redisId = randomBytes(12).toString('hex');
    const own = { deploymentId: record.id, name, format: STORES_FORMAT, redisId };
    const taken = mark ?? (await writeMark(redis, own));
    assertOurs(record, taken);
    watched = undefined;
    const isBlind = found.redisId !== null && !(await isFeedMarked());
    if (!(await replaceRedis(pool, found, taken.redisId, isBlind))) return 'watching';
    if (found.redisId !== null)
      log.warn({ redisId: taken.redisId, before: found.redisId }, 'sells by another Redis than before');
    if (isBlind)
      log.warn('MySQL may have lost commits: the numbers of events and the epochs of sales go on far above');
    return settle(record);
  }

  /** Workers that ran when Redis lost its data mark it anew, by what they remember. */
  async function isFeedMarked(): Promise<boolean> {
    const { feedId } = await readFeed(pool);
    return (await readFeedMark(redis, feedId)) > 0;
  }

  /**
   * Whether the noted Redis is gone: its mark has not moved for as long as this process has watched it. No
   * clock is compared with another's.
   * @param record read after this Redis
   * @throws WrongDeploymentError when a process has seen it since this Redis was found to be another
   */
  function isGone({ redisId, redisSeenAt, now }: DeploymentRecord): boolean {
    const nowMs = performance.now();
    const before = watched;
    // A MySQL that took over may have a clock that is behind.
    if (!before || before.redisId !== redisId || now < before.from) {
      watched = { redisId, redisSeenAt, from: now, sinceMs: nowMs };
      return false;
    }
    if (redisSeenAt?.getTime() === before.redisSeenAt?.getTime()) return nowMs - before.sinceMs >= watchMs;
    if (redisSeenAt && redisSeenAt > before.from) throw inUseElsewhere();
    // Seen before this Redis was read, and written since.
    watched = { ...before, redisSeenAt, sinceMs: nowMs };
    return false;
  }

  return {
    /**
     * Looks once at both stores.
     * @returns `watching` while another Redis is noted that may be in use: to be asked again soon
     * @throws WrongDeploymentError when a store is another's; what a store throws that is away
     */
    look,

    /**
     * Looks once and changes nothing, for commands that an operator runs.
     * @throws WrongDeploymentError also when another Redis was in use a moment ago
     */
    async check(): Promise<void> {
      const [record, mark] = [await readRecord(), await readMark(redis)];
      assertOurs(record, mark);
      if (!mark) await assertNoStranger();
      const { redisId, redisSeenAt, now } = record;
      if (redisId === null || redisId === mark?.redisId) return;
      if (redisSeenAt && now.getTime() - redisSeenAt.getTime() < watchMs) throw inUseElsewhere();
    },

    /** Looks until the stores are known to belong together. Throws like `look`. */
    async join(signal?: AbortSignal): Promise<void> {
      for (;;) {
        if (signal?.aborted === true || (await look()) === 'ours') return;
        await delay(LOOK_AGAIN_MS);
      }
    },

    /** Looks until `signal` aborts. @throws WrongDeploymentError */
    async keep(signal: AbortSignal): Promise<void> {
      while (!signal.aborted) {
        const pauseMs = await look().then(
          (seen) => (seen === 'ours' ? KEEP_EVERY_MS : LOOK_AGAIN_MS),
          (error: unknown) => {
            if (error instanceof WrongDeploymentError) throw error;
            log.warn({ err: error }, 'it is not known now whether Redis and MySQL belong together');
            return RETRY_AFTER_MS;
          },
        );
        await delay(pauseMs, undefined, { signal }).catch(() => {});
      }
    },

    /** @throws while no store has given the id yet */
    known(): Deployment {
      if (id === undefined) throw new Error('the deployment is not known before MySQL has answered');
      return { id, name };
    },
  };
}

function inUseElsewhere(): WrongDeploymentError {
  return new WrongDeploymentError(
    'MySQL sells by another Redis than this one, and that is in use. Point REDIS_URL and REDIS_KEY_PREFIX to it, or stop what uses it.',
  );
}

/** Before a migration: what another release has made is left alone. @throws WrongDeploymentError */
export async function assertKnownFormat(pool: Pool): Promise<void> {
  assertFormat('MySQL', await readFormat(pool));
}

function assertFormat(store: 'MySQL' | 'Redis', format: number | undefined): void {
  if (format === undefined || format === STORES_FORMAT) return;
  const instead =
    store === 'MySQL'
      ? 'begin with an empty database and a REDIS_KEY_PREFIX of its own'
      : 'begin with an empty Redis, whose data are made again from MySQL';
  throw new WrongDeploymentError(
    `${store} has the format ${format} of the stores, and this release works with ${STORES_FORMAT}. Start the release that made it, or ${instead}.`,
  );
}
