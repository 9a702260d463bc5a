/** What a command works with: each part is opened when it is first asked for, and closed at the end. */

import { Client, Connection } from '@temporalio/client';
import { pino } from 'pino';
import type { OpsAccess, OpsConfig } from '../config.ts';
import { TOOL_WAITS } from '../limits.ts';
import { messageOf } from '../log.ts';
import { createMysqlPool, type Pool } from '../mysql/connection.ts';
import { connectRedis, type RedisClient } from '../redis/connection.ts';
import { mysqlStores } from '../stores/bound.ts';
import { createDeploymentStores } from '../stores/deployment.ts';
import { openStores, type Stores } from '../stores/open.ts';
import type { Api } from './api.ts';
import { OpsError, type Terminal } from './terminal.ts';

export interface OpsContext {
  terminal: Terminal;
  /** The operator, unless the command names another. */
  user: string;
  /** Reads the environment when the first command needs it, so that help works without. */
  loadConfig: () => OpsConfig;
  /** As `loadConfig`, for a command that calls the API. */
  loadAccess: () => OpsAccess | Promise<OpsAccess>;
}

/** What the commands are made with. */
export interface Shell extends Pick<OpsContext, 'terminal' | 'user'> {
  /** Makes a command's action of work that returns whether all is well. */
  run(work: (parts: Parts) => Promise<boolean>): Promise<void>;
  /** As `run`, with the API. */
  call(work: (api: Api) => Promise<boolean>): Promise<void>;
}

/** A client's own warnings say less than the error that the command ends with. */
const quiet = pino({ level: 'silent' });

export type Parts = ReturnType<typeof createParts>;

export function createParts(config: OpsConfig) {
  const closers: (() => Promise<void> | void)[] = [];

  const pool = once((): Pool => {
    const opened = createMysqlPool(config.MYSQL_URL, config.MYSQL_CONNECTIONS, TOOL_WAITS.mysql);
    closers.push(() => opened.end());
    return opened;
  });

  const redisAsItIs = once(async (): Promise<RedisClient> => {
    const redis = await connectRedis(config.REDIS_URL, quiet, {
      keyPrefix: config.REDIS_KEY_PREFIX,
      mayBeReplica: true,
      waits: TOOL_WAITS.redis,
    }).catch(failForOperator);
    closers.push(() => redis.disconnect());
    return redis;
  });

  const stores = once(async (): Promise<Stores> => {
    const opened = await openStores(config, quiet, TOOL_WAITS).catch(failForOperator);
    closers.push(() => opened.close());
    await opened.deployment.check().catch(failForOperator);
    return opened;
  });

  return {
    config,
    /** The stores in MySQL, where no other server is needed. */
    mysql: once(() => mysqlStores(pool())),

    /** All stores. @throws OpsError when Redis is not reachable, or another deployment's */
    stores,

    /** To read alone, also while MySQL is away. @throws OpsError when Redis is not reachable */
    redisAsItIs,

    /** @throws OpsError when Redis is not reachable, or another deployment's */
    redis: once(async (): Promise<RedisClient> => {
      const redis = await redisAsItIs();
      const own = { redis, pool: pool(), name: config.DEPLOYMENT_NAME, log: quiet };
      await createDeploymentStores(own).check().catch(failForOperator);
      return redis;
    }),

    /** @throws OpsError when Temporal is not reachable */
    temporal: once(async (): Promise<Client> => {
      const { connectionOptions, namespace } = config.temporal;
      const options = { ...connectionOptions, connectTimeout: TOOL_WAITS.answerMs };
      const connection = await Connection.connect(options).catch((error: unknown) => {
        throw new OpsError(`Temporal is not reachable: ${messageOf(error)}`, { cause: error });
      });
      closers.push(() => connection.close());
      return new Client({ connection, namespace: namespace ?? 'default' });
    }),

    /** A part that cannot be closed any more must not hide what the command found. */
    async close(): Promise<void> {
      await Promise.allSettled(closers.splice(0).map(async (close) => close()));
    },
  };
}

function failForOperator(error: unknown): never {
  throw new OpsError(messageOf(error), { cause: error });
}

/** What could not be opened is tried again when it is asked for again. */
function once<T>(open: () => T): () => T {
  let opened: { part: T } | undefined;
  return () => {
    if (opened) return opened.part;
    const opening = { part: open() };
    opened = opening;
    if (opening.part instanceof Promise)
      opening.part.catch(() => {
        if (opened === opening) opened = undefined;
      });
    return opening.part;
  };
}
