/** Prepares the stores of `npm start`: the schema, and a sale with something to buy. */

import { pino } from 'pino';
import { prepareDemoSale } from '../src/demo-sale.ts';
import { DEFAULT_DEPLOYMENT_NAME } from '../src/limits.ts';
import { createMysqlPool } from '../src/mysql/connection.ts';
import { migrate } from '../src/mysql/migrate.ts';
import { amountRulesOf } from '../src/providers/open.ts';
import { connectRedis } from '../src/redis/connection.ts';
import { mysqlStores } from '../src/stores/bound.ts';
import { redisStores } from '../src/stores/bound.ts';
import { assertKnownFormat, createDeploymentStores } from '../src/stores/deployment.ts';

const SALE_ID = 'demo';

/** Safe to repeat: what exists is left as it is. Returns the sale's id. */
export async function prepareDemo(options: {
  mysqlUrl: string;
  redisUrl: string;
  progress: (line: string) => void;
}): Promise<string> {
  const log = pino({ level: 'silent' });
  const pool = createMysqlPool(options.mysqlUrl);
  // As the parts that are started read it.
  const keyPrefix = process.env['REDIS_KEY_PREFIX'] || undefined;
  const redis = await connectRedis(options.redisUrl.split(','), log, { keyPrefix });
  try {
    await assertKnownFormat(pool);
    const applied = await migrate(pool, log);
    const name = process.env['DEPLOYMENT_NAME'] || DEFAULT_DEPLOYMENT_NAME;
    await createDeploymentStores({ redis, pool, name, log }).join();
    options.progress(applied.length > 0 ? `Migrated: ${applied.join(', ')}` : 'The schema is up to date');
    const stores = { sales: mysqlStores(pool).sales, saleStock: redisStores(redis).saleStock };
    // `npm start` runs on the sandbox.
    await prepareDemoSale(SALE_ID, { ...stores, provider: amountRulesOf('sandbox') });
    options.progress(`The sale "${SALE_ID}" is open`);
    return SALE_ID;
  } finally {
    redis.disconnect();
    await pool.end();
  }
}
