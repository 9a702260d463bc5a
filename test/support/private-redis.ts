/** A Redis that belongs to one test, which may stop or freeze it half-way. */

import { locateServers } from '../../stack/install/server-packages.ts';
import { redisPackage, startRedis } from '../../stack/servers/redis.ts';
import { openTestProcesses } from './test-processes.ts';

export interface PrivateRedis {
  url: string;
  /** It neither answers nor refuses, until it is thawed. */
  freeze(): void;
  thaw(): void;
  /** Idempotent. */
  stop(): Promise<void>;
}

let located: Awaited<ReturnType<typeof locateServers>> | undefined;

export async function startPrivateRedis(): Promise<PrivateRedis> {
  located ??= await locateServers([redisPackage], () => {});
  const [found] = located;
  if (!found) throw new Error('Redis was asked for');
  const { processes, close } = await openTestProcesses((crash) => console.error(crash.message));
  // Its data are of no use to anybody, and a Redis that is told to stop takes 60 ms more.
  const stop = async (): Promise<void> => {
    await processes.kill('redis');
    await close();
  };
  let stopped: Promise<void> | undefined;
  try {
    return {
      url: await startRedis({ processes, found, fresh: true, durable: false }),
      freeze: () => processes.freeze('redis'),
      thaw: () => processes.thaw('redis'),
      stop: () => (stopped ??= stop()),
    };
  } catch (error) {
    await close();
    throw error;
  }
}
