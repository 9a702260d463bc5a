/** A Redis of a test's own, to be stopped in its middle. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { locatePieces } from '../../stack/install.ts';
import { createProcesses } from '../../stack/processes.ts';
import { redisPiece, startRedis } from '../../stack/redis.ts';

export interface PrivateRedis {
  url: string;
  /** Idempotent. */
  stop(): Promise<void>;
}

export async function startPrivateRedis(): Promise<PrivateRedis> {
  const [found] = await locatePieces([redisPiece], () => {});
  if (!found) throw new Error('Redis was asked for');
  const dataDir = await mkdtemp(join(tmpdir(), 'holdfast-redis-'));
  const processes = createProcesses({
    dataDir,
    onCrash: (crash) => console.error(crash.message),
  });
  let stopped: Promise<void> | undefined;
  const stop = async () => {
    await processes.stopAll();
    await rm(dataDir, { recursive: true, force: true });
  };
  try {
    return {
      url: await startRedis({ processes, found, fresh: true, durable: false }),
      stop: () => (stopped ??= stop()),
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
