/**
 * The Redis of a storm. Its data can be emptied, its files can be
 * put back as they were, and a replica can take its place.
 */

import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Found } from '../stack/install/server-packages.ts';
import { findFreePort } from '../stack/processes/ports.ts';
import type { Processes } from '../stack/processes/processes.ts';
import { waitUntil } from '../stack/processes/wait.ts';
import { startRedis, withRedis } from '../stack/servers/redis.ts';

/** A full copy of a storm's data takes a second. */
const FOLLOW_TIMEOUT_MS = 30_000;
/** Redis binds a port at once; the old one, which has just been killed, may take a moment to be gone. */
const TAKE_OVER_TIMEOUT_MS = 5_000;

/** A replica that has all data of the Redis that it follows. */
export interface Replica {
  url: string;
  /** It follows no more, and takes writes. */
  promote(): Promise<void>;
  /** It listens where the other did, which has been killed, and is the storm's Redis from now on. */
  takeOver(): Promise<void>;
}

export type RedisServer = ReturnType<typeof createRedisServer>;

export function createRedisServer(options: { processes: Processes; found: Found; port: number }) {
  const { processes, found, port } = options;
  const base = { processes, found, fresh: false, durable: true };
  const url = `redis://127.0.0.1:${port}`;
  /** A replica gets a name of its own, and keeps it when it takes over. */
  let replicas = 0;
  let name = 'redis';
  const dir = (): string => join(processes.dataDir, name);

  return {
    url,
    /** Of the process that is the storm's Redis at present. */
    processName: () => name,

    start: async (): Promise<void> => void (await startRedis({ ...base, name, preferredPort: port })),

    /** Empties it while it runs. */
    flush: (): Promise<unknown> => withRedis(url, (redis) => redis.flushall()),

    /** Removes its files, while it is down. */
    removeFiles: (): Promise<void> => rm(dir(), { recursive: true, force: true }),

    /** Copies its files while it runs. @returns puts them back, while it is down */
    async copyFiles(): Promise<() => Promise<void>> {
      // A rewrite would change the list of files half-way through the copy.
      await withRedis(url, (redis) => redis.config('SET', 'auto-aof-rewrite-percentage', '0'));
      const copy = `${dir()}.old`;
      await rm(copy, { recursive: true, force: true });
      await cp(dir(), copy, { recursive: true });
      return async () => {
        await rm(dir(), { recursive: true, force: true });
        await cp(copy, dir(), { recursive: true });
      };
    },

    /** Starts a replica, and waits until it has everything, also in its own files. */
    async startReplica(): Promise<Replica> {
      replicas += 1;
      const replicaName = `redis-replica-${replicas}`;
      const place = { name: replicaName, preferredPort: await findFreePort(), replicaOf: port };
      const replicaUrl = await startRedis({ ...base, ...place });
      await waitUntil({
        what: 'a replica to have all data',
        timeoutMs: FOLLOW_TIMEOUT_MS,
        check: () => withRedis(replicaUrl, async (redis) => isInSync(await redis.info())),
      });
      return {
        url: replicaUrl,
        promote: async () => void (await withRedis(replicaUrl, (redis) => redis.replicaof('NO', 'ONE'))),
        async takeOver() {
          await waitUntil({
            what: 'a replica to take the address over',
            timeoutMs: TAKE_OVER_TIMEOUT_MS,
            check: () =>
              withRedis(replicaUrl, async (redis) => {
                await redis.config('SET', 'port', String(port));
                return true;
              }),
          });
          await rm(dir(), { recursive: true, force: true });
          name = replicaName;
        },
      };
    },
  };
}

/** The first copy is there, and written to the replica's own append-only file. */
function isInSync(info: string): boolean {
  const wanted = ['master_link_status:up', 'aof_enabled:1', 'aof_rewrite_in_progress:0', 'loading:0'];
  return wanted.every((line) => info.includes(`${line}\r\n`)) && !info.includes('aof_rewrite_scheduled:1');
}
