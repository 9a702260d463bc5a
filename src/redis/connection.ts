/** Connections to Redis, single or cluster. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Cluster, Redis, type ChainableCommander } from 'ioredis';
import type { Logger } from 'pino';
import { z } from 'zod';
import { storeFailed } from '../metrics.ts';

// The addresses of Redis as they are configured, and what of them may be shown: never the password.

export interface RedisAddress {
  /** With user and password. */
  url: string;
  /** Host and port, for messages and logs. */
  endpoint: string;
  /** The password, as it is sent and as the URL spells it. */
  secrets: string[];
}

const DEFAULT_PORT = 6379;

/** @throws when `url` is none; the error does not repeat it */
export function parseAddress(url: string): RedisAddress {
  assert(URL.canParse(url), 'a Redis address is not a URL');
  const { hostname, port, password, searchParams } = new URL(url);
  // ioredis also takes the password from the query.
  const inQuery = searchParams.get('password') ?? '';
  const spellings = [password, decodeURIComponent(password), inQuery, encodeURIComponent(inQuery)];
  return {
    url,
    endpoint: `${hostname}:${port === '' ? DEFAULT_PORT : port}`,
    // The longest first: one spelling may begin with another.
    secrets: [...new Set(spellings)].filter((text) => text !== '').toSorted((a, b) => b.length - a.length),
  };
}

/** For the nodes that a cluster names of itself: they come without user, password or TLS. */
function credentialsOf({ url }: RedisAddress) {
  const { protocol, username, password } = new URL(url);
  return {
    ...(username === '' ? {} : { username: decodeURIComponent(username) }),
    ...(password === '' ? {} : { password: decodeURIComponent(password) }),
    ...(protocol === 'rediss:' ? { tls: {} } : {}),
  };
}

/**
 * Takes the password out of a connection's error, out of its causes and of the errors of single nodes. A
 * failed AUTH or HELLO carries it among the command's arguments, and a server without these commands repeats
 * it in the message. In place: ioredis rejects the commands under way with the same error, and their callers
 * log it too.
 */
export function hideSecrets(error: unknown, secrets: readonly string[]): void {
  if (!(error instanceof Error)) return;
  for (const secret of secrets) {
    error.message = error.message.replaceAll(secret, '***');
    if (error.stack !== undefined) error.stack = error.stack.replaceAll(secret, '***');
  }
  Reflect.deleteProperty(error, 'command');
  hideSecrets(error.cause, secrets);
  // The error of a cluster carries that of the node that was tried last.
  hideSecrets(Reflect.get(error, 'lastNodeError'), secrets);
}

/** An answer takes a millisecond. Without one for so long its node is away. */
const ANSWER_TIMEOUT_MS = 300;

/** @throws when there is no answer in time */
export function answerInTime<T>(answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(new Error(`no answer of Redis within ${ANSWER_TIMEOUT_MS} ms`));
    // An answer that came while this process stalled is read first.
    const timer = setTimeout(() => setImmediate(giveUp), ANSWER_TIMEOUT_MS);
    answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

export type RedisClient = Redis | Cluster;

/** How long a process waits for Redis. */
interface Waits {
  connectMs: number;
  /** A command unanswered for so long counts as failed. */
  commandMs: number;
  /** With commands unanswered for so long the connection is made anew. */
  silentMs: number;
}

/** A shopper had better repeat than wait on. No blocking read waits for as long as `silentMs`. */
const WAITS: Waits = { connectMs: 5_000, commandMs: 2_000, silentMs: 5_000 };
/** Connecting to a cluster is given up after so long, which is two nodes that vanished. */
const CONNECTED_WITHIN_MS = 10_000;
/** Reconnects back off to one second, so a restarted Redis is found quickly and not hammered. */
const MAX_RECONNECT_DELAY_MS = 1_000;

const shared = {
  // While Redis is away a command fails at once: an offline queue would hold shoppers and memory without a
  // bound.
  enableOfflineQueue: false,
};

/** How often a connection asks whether its server takes writes: for so long it may read from a replica. */
const ROLE_EVERY_MS = 1_000;

const connection = {
  maxRetriesPerRequest: 1,
  // After a failover the old server may live on as a replica. It refuses the write, and the address leads to
  // the new one by then, or soon.
  reconnectOnError: (error: Error) => /\bREADONLY\b/.test(error.message),
};

function reconnectDelayMs(attempt: number): number {
  return Math.min(attempt * 50, MAX_RECONNECT_DELAY_MS);
}

interface RedisOptions {
  /** Stands before every key, with a colon; undefined: nothing does. Deployments share a Redis by it. */
  keyPrefix?: string | undefined;
  /** A shopper's unless given. */
  waits?: Waits;
  /** Its commands wait for what comes, so they have no bound of their own. */
  isBlocking?: boolean;
  /** To look at the server as it is: a replica is neither refused nor left. */
  mayBeReplica?: boolean;
}

/**
 * Connects and waits until commands can be sent. Several URLs are the nodes of a cluster. No error and no log
 * line of the connection shows a password. A server that becomes a replica is left within a second.
 * @throws when Redis is not reachable, with the last connection error as the cause, or is a replica
 */
export async function connectRedis(
  urls: readonly string[],
  log: Logger,
  { keyPrefix, waits = WAITS, isBlocking = false, mayBeReplica = false }: RedisOptions = {},
): Promise<RedisClient> {
  const common = { ...shared, ...(keyPrefix !== undefined && { keyPrefix: `${keyPrefix}:` }) };
  const timeouts = {
    ...connection,
    connectTimeout: waits.connectMs,
    // A server that vanished without closing leaves a socket that TCP gives up only after 15 minutes.
    socketTimeout: waits.silentMs,
    ...(isBlocking ? {} : { commandTimeout: waits.commandMs }),
  };
  const addresses = urls.map(parseAddress);
  const [first] = addresses;
  if (first === undefined) throw new Error('no Redis address');
  const redis =
    addresses.length > 1
      ? new Cluster([...urls], {
          ...common,
          lazyConnect: true,
          clusterRetryStrategy: reconnectDelayMs,
          redisOptions: { ...timeouts, ...credentialsOf(first) },
        })
      : new Redis(first.url, { ...common, ...timeouts, lazyConnect: true, retryStrategy: reconnectDelayMs });
  if (redis instanceof Cluster) redis.on('+node', sendTogether);
  else sendTogether(redis);
  const secrets = addresses.flatMap((address) => address.secrets);
  redis.on('error', (error: Error) => {
    hideSecrets(error, secrets);
    storeFailed('redis', 'unavailable');
    log.warn({ err: error }, 'redis connection');
  });
  // An error of one node of a cluster; it may come back within an error of the whole cluster.
  redis.on('node error', (error: Error) => hideSecrets(error, secrets));
  const endpoints = addresses.map(({ endpoint }) => endpoint).join(', ');
  let isGood = mayBeReplica;
  try {
    await (redis instanceof Cluster ? connectCluster(redis) : redis.connect());
    isGood ||= redis instanceof Cluster || (await takesWrites(redis));
  } catch (error) {
    redis.disconnect();
    hideSecrets(error, secrets);
    throw new Error(`Redis is not reachable at ${endpoints}`, { cause: error });
  }
  if (!isGood) {
    redis.disconnect();
    throw new Error(`Redis at ${endpoints} is a replica, which takes no writes`);
  }
  // A replica refuses reads that block, and a node of a cluster refers callers to another.
  if (redis instanceof Redis && !mayBeReplica && !isBlocking) leaveReplica(redis, log);
  return redis;
}

/** By Redis' clock, Unix ms. */
export async function readClockMs(redis: RedisClient): Promise<number> {
  const [seconds, micros] = await redis.time();
  return Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000);
}

/** Whether it is no replica. A node of a cluster refers writers to the one that takes writes. */
export async function takesWrites(redis: RedisClient): Promise<boolean> {
  const info = await redis.info('replication');
  return redis instanceof Cluster || /^role:master/m.test(info);
}

/** A process that only reads is refused nothing, and what it reads may be older than what it has read. */
function leaveReplica(redis: Redis, log: Logger): void {
  let underWay: Promise<void> | undefined;
  const look = async (): Promise<void> => {
    if (redis.status !== 'ready' || (await takesWrites(redis))) return;
    log.warn('Redis has become a replica, which takes no writes: the connection is made anew');
    redis.disconnect(true);
  };
  // Without an answer the connection's own bounds close it.
  const timer = setInterval(() => {
    // One at a time: a Redis that answers slowly would have more and more of them to answer.
    underWay ??= look()
      .catch(() => {})
      .finally(() => (underWay = undefined));
  }, ROLE_EVERY_MS).unref();
  redis.on('end', () => clearInterval(timer));
}

/**
 * A further connection to a node, for messages alone. It reconnects by itself, and subscribes to nothing
 * anew: ioredis would put the prefix before a channel once more.
 */
export function connectToListen(node: Redis, log: Logger): Redis {
  const redis = node.duplicate({
    keyPrefix: '',
    autoResubscribe: false,
    enableOfflineQueue: false,
    enableReadyCheck: true,
    lazyConnect: false,
    retryStrategy: reconnectDelayMs,
  });
  const { password } = node.options;
  redis.on('error', (error: Error) => {
    hideSecrets(error, typeof password === 'string' ? [password] : []);
    storeFailed('redis', 'unavailable');
    log.warn({ err: error }, 'redis connection for messages');
  });
  return redis;
}

/**
 * Where a cluster is not whole when ioredis first looks at it, ioredis looks again, and the promise of the
 * first look never settles.
 */
async function connectCluster(cluster: Cluster): Promise<void> {
  const late = AbortSignal.timeout(CONNECTED_WITHIN_MS);
  const giveUp = once(late, 'abort').then(() => {
    throw new Error(`the cluster was not whole within ${CONNECTED_WITHIN_MS} ms`);
  });
  const ready = new Promise<void>((resolve) => cluster.once('ready', () => resolve()));
  await Promise.race([cluster.connect(), ready, giveUp]);
}

/**
 * What is sent within one turn of the event loop leaves in one write. Not by ioredis' own pipelining, which
 * holds commands back while those before them are unanswered: with 64 purchases at work an order took 109 to
 * 129 us of the API's time instead of 131 to 197.
 */
function sendTogether(redis: Redis): void {
  redis.on('connect', () => {
    const { stream } = redis;
    const write = stream.write.bind(stream);
    const corkAndWrite = (...sent: unknown[]): unknown => {
      if (stream.writableCorked === 0) {
        stream.cork();
        setImmediate(() => stream.uncork());
      }
      return Reflect.apply(write, stream, sent);
    };
    Object.assign(stream, { write: corkAndWrite });
  });
}

/**
 * An accepted order must never be evicted, so only a Redis that refuses writes when it is full will do.
 * @throws when maxmemory-policy is anything but noeviction
 */
export async function assertNoEviction(redis: RedisClient): Promise<void> {
  for (const node of redis instanceof Cluster ? redis.nodes('master') : [redis]) {
    // INFO rather than CONFIG GET: managed services often refuse the latter.
    const policy = /maxmemory_policy:(\S+)/.exec(await node.info('memory'))?.[1];
    if (policy === 'noeviction') continue;
    throw new Error(
      `Redis has maxmemory-policy ${policy ?? 'unknown'}; Holdfast needs noeviction, or accepted orders could vanish`,
    );
  }
}

const redisError = z.object({ name: z.string(), message: z.string() });

/** Redis cannot be reached, or did not answer in time. */
export function isRedisAway(error: unknown): boolean {
  const { name, message } = redisError.safeParse(error).data ?? { name: '', message: '' };
  return (
    name === 'MaxRetriesPerRequestError' ||
    /^(?:Command timed out|Socket timeout\b|Connection is closed|Stream isn't writeable|Redis is not reachable)/.test(
      message,
    )
  );
}

/** Redis is at maxmemory and refused a command that needs more memory, before any of it was done. */
export function isOutOfMemory(error: unknown): boolean {
  return error instanceof Error && error.name === 'ReplyError' && error.message.startsWith('OOM ');
}

/**
 * Runs a MULTI.
 * @returns the result of each command
 * @throws the error of a command that failed; ioredis would leave it in the list
 */
export async function transact(multi: ChainableCommander): Promise<unknown[]> {
  const replies = await multi.exec();
  assert(replies, 'a transaction without WATCH is never aborted');
  return replies.map(([error, value]) => {
    if (error) throw error;
    return value;
  });
}
