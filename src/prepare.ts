/** The process that runs first: checks Redis, migrates MySQL and, in demo mode, opens the demo sale. */

import type { Logger } from 'pino';
import { loadPrepareConfig, type PrepareConfig } from './config.ts';
import { prepareDemoSale } from './demo-sale.ts';
import { TOOL_WAITS } from './limits.ts';
import { createMysqlPool, type Pool } from './mysql/connection.ts';
import { migrate } from './mysql/migrate.ts';
import { OperatorError, runTask } from './process.ts';
import { amountRulesOf } from './providers/open.ts';
import { assertNoEviction, connectRedis, type RedisClient } from './redis/connection.ts';
import { mysqlStores } from './stores/bound.ts';
import { redisStores } from './stores/bound.ts';
import { assertKnownFormat, createDeploymentStores } from './stores/deployment.ts';

await runTask('prepare', loadPrepareConfig, prepare);

async function prepare(config: PrepareConfig, log: Logger): Promise<void> {
  const redis = await openRedis(config, log);
  const pool = createMysqlPool(config.MYSQL_URL, config.MYSQL_CONNECTIONS, TOOL_WAITS.mysql);
  try {
    await awaitAnswer(pool);
    await assertKnownFormat(pool);
    const applied = await migrate(pool, log);
    log.info({ applied }, applied.length > 0 ? 'migrated' : 'the schema is up to date');
    await createDeploymentStores({ redis, pool, name: config.DEPLOYMENT_NAME, log }).join();
    if (config.DEMO_SALE_ID !== undefined) {
      const provider = amountRulesOf(config.PAYMENT_PROVIDER);
      const stores = { sales: mysqlStores(pool).sales, saleStock: redisStores(redis).saleStock };
      await prepareDemoSale(config.DEMO_SALE_ID, { ...stores, provider });
      log.info({ saleId: config.DEMO_SALE_ID }, 'the demo sale is open');
    }
  } finally {
    redis.disconnect();
    await pool.end();
  }
}

/** API and worker refuse a Redis that is away or evicts; here that is noticed before MySQL is changed. */
async function openRedis({ REDIS_URL, REDIS_KEY_PREFIX }: PrepareConfig, log: Logger): Promise<RedisClient> {
  // The client logs each failed connection with a stack; the error below says the same in one line.
  const redis = await connectRedis(REDIS_URL, log.child({}, { level: 'error' }), {
    keyPrefix: REDIS_KEY_PREFIX,
    waits: TOOL_WAITS.redis,
  }).catch(failForOperator);
  try {
    await assertNoEviction(redis);
  } catch (error) {
    redis.disconnect();
    failForOperator(error);
  }
  return redis;
}

/** A failed migration is a fault of ours and keeps its stack; a MySQL that does not answer is not. */
async function awaitAnswer(pool: Pool): Promise<void> {
  await pool.query('SELECT 1').catch((error: unknown) => failForOperator(error, 'MySQL does not answer'));
}

function failForOperator(error: unknown, what?: string): never {
  const lines = [...(what === undefined ? [] : [what]), ...messagesOf(error)];
  throw new OperatorError(lines.join(': '), { cause: error });
}

/** With those of the causes. A host with two addresses fails with an AggregateError, without a message. */
function messagesOf(error: unknown): string[] {
  if (!(error instanceof Error)) return [];
  const own = error.message === '' && 'code' in error ? String(error.code) : error.message;
  return [own, ...messagesOf(error.cause)];
}
