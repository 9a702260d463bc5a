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

export async function startPrivateRedis(): Promise<PrivateRedis> {
  const [found] = await locateServers([redisPackage], () => {});
  if (!found) throw new Error('Redis was asked for');
  const { processes, close } = await openTestProcesses((crash) => console.error(crash.message));
  try {
    return {
      url: await startRedis({ processes, found, fresh: true, durable: false }),
      freeze: () => processes.freeze('redis'),
      thaw: () => processes.thaw('redis'),
      stop: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
