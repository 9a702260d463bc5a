/** Servers for real processes of one test: a Redis, a database and a namespace of their own. */

import { inject } from 'vitest';
import type { Servers } from '../../stack/servers/servers.ts';
import { startPrivateRedis, type PrivateRedis } from './private-redis.ts';
import { openTestStores, type TestStores } from './stores.ts';
import { createNamespace } from './workflows/temporal.ts';

export interface PrivateStage {
  stores: TestStores;
  redis: PrivateRedis;
  namespace: string;
  /** As processes are told of them. */
  servers: Servers;
}

/**
 * `onClose` takes what ends all of it, in the opposite order.
 * @param mysqlUrl of a database server that only this test has; by default a database on that of the run
 */
export async function openPrivateStage(
  onClose: (close: () => Promise<void>) => void,
  mysqlUrl?: string,
): Promise<PrivateStage> {
  const redis = await startPrivateRedis();
  onClose(() => redis.stop());
  const [stores, namespace] = await Promise.all([
    openTestStores(
      { REDIS_URL: [redis.url], ...(mysqlUrl !== undefined && { MYSQL_URL: mysqlUrl }) },
      onClose,
    ),
    createNamespace(),
  ]);
  const servers = {
    redisUrl: redis.url,
    mysqlUrl: stores.config.MYSQL_URL,
    temporalAddress: inject('temporalAddress'),
    temporalUiUrl: undefined,
  };
  return { stores, redis, namespace, servers };
}
