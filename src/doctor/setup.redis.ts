/** How Redis is set up, by what it says of itself. */

import { Cluster, type Redis } from 'ioredis';
import { z } from 'zod';
import type { RedisClient } from '../redis/connection.ts';
import { isLoopback, readClock, REDIS_PROMISES, type Checkup, type Line } from './line.ts';

/** The scripts' flags (allow-oom) came with it. */
const OLDEST_MAJOR = 7;
const NEEDS_FILE = 'Set `appendonly yes` and `appendfsync always`.';

const configReply = z.array(z.string());
const timeReply = z.tuple([z.coerce.number(), z.coerce.number()]);

/** Of a cluster each master. */
export async function examine(redis: RedisClient): Promise<Checkup> {
  if (!(redis instanceof Cluster)) return examineNode(redis, 'Redis');
  const nodes = redis.nodes('master');
  const found = await Promise.all(
    nodes.map((node) => examineNode(node, `Redis ${node.options.host}:${node.options.port}`)),
  );
  // The weakest node holds the orders of some sales.
  const promises = Object.values<string>(REDIS_PROMISES);
  const weakest = found
    .map(({ promise = '' }) => promise)
    .toSorted((a, b) => promises.indexOf(b) - promises.indexOf(a))[0];
  return {
    lines: found.flatMap(({ lines }) => lines),
    clocks: found.flatMap(({ clocks = [] }) => clocks),
    ...(weakest !== undefined && { promise: weakest }),
  };
}

async function examineNode(redis: Redis, name: string): Promise<Checkup> {
  const info = parseInfo(await redis.info());
  const config = await readConfig(redis);
  const beganMs = Date.now();
  const [seconds, micros] = timeReply.parse(await redis.time());
  const endedMs = Date.now();
  const { line, promise } = judgeFile(name, info, config);
  return {
    lines: [
      judgeVersion(name, info),
      line,
      ...judgeWrites(name, info),
      judgeEviction(name, info),
      judgeReplicas(name, info, config),
      ...judgeWire(name, redis),
    ],
    clocks: [readClock(name, seconds * 1_000 + micros / 1_000, { beganMs, endedMs })],
    promise,
  };
}

type Info = ReadonlyMap<string, string>;

function parseInfo(text: string): Info {
  return new Map([...text.matchAll(/^(\w+):(.*?)\r?$/gm)].map(([, name = '', value = '']) => [name, value]));
}

/** Undefined where Redis refuses to say it, as managed services do. */
async function readConfig(redis: Redis): Promise<Info | undefined> {
  const reply = await redis
    .config('GET', 'appendfsync', 'save', 'min-replicas-to-write')
    .catch((error: unknown) => {
      if (error instanceof Error && error.name === 'ReplyError') return undefined;
      throw error;
    });
  const parsed = configReply.safeParse(reply).data;
  if (!parsed || parsed.length === 0) return undefined;
  return new Map(parsed.flatMap((text, i) => (i % 2 === 0 ? [[text, parsed[i + 1] ?? '']] : [])));
}

function judgeVersion(name: string, info: Info): Line {
  const version = info.get('redis_version') ?? '';
  const found = [version, info.get('redis_mode')].filter(Boolean).join(', ');
  if (Number(version.split('.')[0]) >= OLDEST_MAJOR) return { level: 'ok', what: `${name} version`, found };
  return {
    level: 'bad',
    what: `${name} version`,
    found: found || 'not said',
    means: 'Its scripts are refused: nothing is sold.',
    remedy: `Use Redis ${OLDEST_MAJOR} or newer.`,
  };
}

/** How what was accepted is kept until MySQL has it. */
function judgeFile(name: string, info: Info, config: Info | undefined): { line: Line; promise: string } {
  const what = `${name} persistence`;
  const judge = (level: Line['level'], found: string, promise: string, remedy?: string) => ({
    promise,
    line: { level, what, found, ...(remedy !== undefined && { means: promise, remedy }) },
  });
  const { always, everysec, no, replicas, snapshots, none, unknown } = REDIS_PROMISES;
  if (info.get('aof_enabled') === '1') {
    const fsync = config?.get('appendfsync');
    const found = `append-only file, appendfsync ${fsync ?? 'not said (CONFIG is refused)'}`;
    const remedy = 'Set `appendfsync always`.';
    switch (fsync) {
      case 'always':
        return judge('ok', found, always);
      case 'everysec':
        return judge(
          'warn',
          found,
          everysec,
          `${remedy} Where that is too slow, say so to those who promise.`,
        );
      case 'no':
        return judge('bad', found, no, remedy);
      case undefined:
      default:
        return judge(
          'unknown',
          found,
          unknown,
          'Ask the provider of this Redis: `appendfsync always` is wanted.',
        );
    }
  }
  if (Number(info.get('connected_slaves') ?? 0) > 0)
    return judge('warn', 'no append-only file, replicas alone', replicas, NEEDS_FILE);
  if (!config)
    return judge('bad', 'no append-only file; snapshots not said (CONFIG is refused)', snapshots, NEEDS_FILE);
  const save = config.get('save') ?? '';
  if (save === '') return judge('bad', 'no append-only file, no snapshots', none, NEEDS_FILE);
  return judge('bad', `no append-only file, snapshots (${save})`, snapshots, NEEDS_FILE);
}

/** A file that cannot be written keeps nothing, and is seen only in the log of Redis. */
function judgeWrites(name: string, info: Info): Line[] {
  const failed = ['aof_last_write_status', 'aof_last_bgrewrite_status', 'rdb_last_bgsave_status'].filter(
    (status) => (info.get(status) ?? 'ok') !== 'ok',
  );
  if (failed.length === 0) return [];
  return [
    {
      level: 'bad',
      what: `${name} disk`,
      found: `${failed.join(', ')}: not ok`,
      means: 'What is accepted may not be on disk, or Redis refuses to write.',
      remedy: 'See the log of Redis: most often its disk is full.',
    },
  ];
}

function judgeEviction(name: string, info: Info): Line {
  const policy = info.get('maxmemory_policy');
  const max = Number(info.get('maxmemory') ?? 0);
  const limit = max === 0 ? 'no maxmemory' : `maxmemory ${Math.round(max / 2 ** 20)} MiB`;
  const line = { what: `${name} eviction`, found: `${policy ?? 'not said'}, ${limit}` };
  if (policy === 'noeviction') return { level: 'ok', ...line };
  return {
    level: policy === undefined ? 'unknown' : 'bad',
    ...line,
    means: 'A full Redis throws accepted orders away. API and worker refuse to start with it.',
    remedy: 'Set `maxmemory-policy noeviction`.',
  };
}

function judgeReplicas(name: string, info: Info, config: Info | undefined): Line {
  const what = `${name} replication`;
  if ((info.get('role') ?? 'master') !== 'master')
    return {
      level: 'bad',
      what,
      found: `a replica of ${info.get('master_host')}:${info.get('master_port')}`,
      means: 'It refuses writes: nothing is sold.',
      remedy: 'Point REDIS_URL at the primary, and at what follows it after a failover.',
    };
  const count = Number(info.get('connected_slaves') ?? 0);
  const least = config?.get('min-replicas-to-write');
  const found = `primary with ${count} ${count === 1 ? 'replica' : 'replicas'}, min-replicas-to-write ${least ?? 'not said'}`;
  if (count === 0 || (least !== undefined && Number(least) > 0)) return { level: 'ok', what, found };
  return {
    level: least === undefined ? 'unknown' : 'warn',
    what,
    found,
    means:
      'A primary that was cut off from its replicas goes on accepting, and all of it goes with the failover.',
    remedy: 'Set `min-replicas-to-write 1` and `min-replicas-max-lag 10`.',
  };
}

function judgeWire(name: string, { options }: Redis): Line[] {
  const host = options.host ?? 'localhost';
  if (options.tls !== undefined) return [{ level: 'ok', what: `${name} connection`, found: 'TLS' }];
  if (isLoopback(host) || options.path !== undefined)
    return [{ level: 'ok', what: `${name} connection`, found: 'on this machine' }];
  return [
    {
      level: 'warn',
      what: `${name} connection`,
      found: `not encrypted, to ${host}`,
      means: 'Orders, and the password, are read by whoever listens in between.',
      remedy: 'Use `rediss://` unless the network is yours alone.',
    },
  ];
}
