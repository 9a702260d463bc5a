/** A private Redis of a stack: how it is started, so that no accepted order is lost, and recognised. */

import { mkdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { CONTAINER_READY_TIMEOUT_MS, containerCommand } from '../install/docker.ts';
import type { Found, ServerPackage } from '../install/server-packages.ts';
import { withFreePort } from '../processes/ports.ts';
import type { Processes } from '../processes/processes.ts';
import { redisAccount } from './accounts.ts';

/** Redis listens within milliseconds; reading a large append-only file back takes longer. */
const READY_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 1_000;

/** The scripts' flags (allow-oom) came with Redis 7. */
export const redisPackage: ServerPackage = {
  what: 'Redis 7 or newer',
  binaries: ['redis-server'],
  isGoodVersion: (output) => Number(/v=(\d+)\./.exec(output)?.[1]) >= 7,
  aptPackage: 'redis-server',
  brewFormula: 'redis',
  variable: 'REDIS_URL',
};

/**
 * What a sale needs of its Redis: every accepted order on disk before the answer, and no key ever evicted.
 * Snapshots are off, because the append-only file holds it all.
 */
const durableArgs = Object.entries({
  appendonly: 'yes',
  appendfsync: 'always',
  save: '',
  'maxmemory-policy': 'noeviction',
}).flatMap(([name, value]) => [`--${name}`, value]);

/** Returns the URL of a private Redis on loopback. */
export async function startRedis(options: {
  processes: Processes;
  found: Found;
  fresh: boolean;
  /** False lets a power cut take what was written last, and a container all of it: for tests alone. */
  durable: boolean;
  preferredPort?: number;
  /** Of the process, and of the folder in which it keeps its data. A stack with two gives each its own. */
  name?: string;
  /** The port of the Redis that it follows; programs alone, no containers. */
  replicaOf?: number;
}): Promise<string> {
  const { name = 'redis', replicaOf } = options;
  return withFreePort(options.preferredPort, async (port) => {
    const launch = await launchPlan({ ...options, name, dataDir: options.processes.dataDir, port });
    const url = `redis://127.0.0.1:${port}`;
    await options.processes.start({
      name,
      ...launch,
      args: [...launch.args, ...(replicaOf === undefined ? [] : ['--replicaof', `127.0.0.1 ${replicaOf}`])],
      isReady: () => livesIn(url, launch.dir),
      readyTimeoutMs: options.found.kind === 'docker' ? CONTAINER_READY_TIMEOUT_MS : READY_TIMEOUT_MS,
      stopTimeoutMs: STOP_TIMEOUT_MS,
    });
    return url;
  });
}

/** The arguments of a Redis that keeps its data in this folder and can be recognised by its command line. */
export function redisArgs(dir: string, port: number): string[] {
  const place = ['--bind', '127.0.0.1', '--port', String(port), '--dir', dir];
  return [...place, '--set-proc-title', 'no', ...redisAccount(), ...durableArgs];
}

/** True when the Redis at this address replies and keeps its data in this folder. */
export async function livesIn(url: string, dir: string): Promise<boolean> {
  return withRedis(url, async (redis) => {
    const settings = await redis.config('GET', 'dir');
    return JSON.stringify(settings).includes(JSON.stringify(dir));
  });
}

/** One connection that fails at once instead of trying again. */
export async function withRedis<T>(url: string, use: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url, {
    lazyConnect: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
  });
  // The rejected call carries the same error; without a listener ioredis prints it as unhandled.
  redis.on('error', () => {});
  try {
    await redis.connect();
    return await use(redis);
  } finally {
    redis.disconnect();
  }
}

async function launchPlan(plan: {
  name: string;
  dataDir: string;
  found: Found;
  fresh: boolean;
  durable: boolean;
  port: number;
}) {
  const { name, dataDir, found, fresh, durable, port } = plan;
  if (found.kind === 'docker') {
    const innerDir = '/data';
    const container = await containerCommand({
      name,
      dataDir,
      fresh,
      durable,
      image: 'redis:7',
      port,
      innerPort: 6379,
      innerDir,
      options: [],
      args: ['redis-server', '--dir', innerDir, '--protected-mode', 'no', ...redisAccount(), ...durableArgs],
    });
    return { ...container, dir: innerDir };
  }
  const folder = join(dataDir, name);
  mkdirSync(folder, { recursive: true });
  const dir = realpathSync(folder);
  // Not synced, it is not held up by what other servers of the machine write.
  const args = [...redisArgs(dir, port), ...(durable ? [] : ['--appendfsync', 'no'])];
  return { command: found.path, args, dir, marker: dir };
}
