/** Real stores for a test: a database of its own, and the file's Redis, empty. They close themselves. */

import { pino } from 'pino';
import { ulid } from 'ulidx';
import { inject } from 'vitest';
import { createMysqlPool } from '../../src/mysql/connection.ts';
import { migrate } from '../../src/mysql/migrate.ts';
import type { Sale } from '../../src/sales/sale.ts';
import { openStores, type StoreConfig, type Stores } from '../../src/stores/open.ts';
import { closeOnce } from './close-later.ts';
import { ownRedisUrl } from './own-redis.ts';

/** Only what a test must see: errors would come through its assertions anyway. */
export const silent = pino({ level: 'silent' });

export interface TestStores extends Stores {
  config: StoreConfig;
  /** Creates the sale in MySQL and warms it up in Redis. */
  openSale(sale: Sale): Promise<Sale>;
}

/**
 * Call it in beforeAll or in a test, with which they close. `close()` also drops the database.
 * @param later a test of `test.concurrent` gives the `onTestFinished` of its context
 */
export async function openTestStores(
  overrides: Partial<StoreConfig> = {},
  later?: (close: () => Promise<void>) => void,
): Promise<TestStores> {
  const database = `holdfast_${ulid().toLowerCase()}`;
  const admin = createMysqlPool(inject('mysqlUrl'));
  await admin.query(`CREATE DATABASE ${database} CHARACTER SET utf8mb4`);
  const mysqlUrl = new URL(inject('mysqlUrl'));
  mysqlUrl.pathname = `/${database}`;
  const config: StoreConfig = {
    REDIS_URL: overrides.REDIS_URL ?? [await ownRedisUrl()],
    MYSQL_URL: mysqlUrl.href,
    ENGINE_BUDGET: 50,
    MYSQL_STORES_PER_SECOND: 100,
    ...overrides,
  };
  const stores = await openStores(config, silent);
  if (config.REDIS_URL.length === 1) await stores.redis.flushall();
  await migrate(stores.pool, silent);
  return {
    ...stores,
    config,
    async openSale(sale) {
      await stores.sales.create(sale);
      await stores.sales.warmUp(sale.saleId, stores.saleStock);
      return sale;
    },
    close: closeOnce(async () => {
      await stores.close();
      await admin.query(`DROP DATABASE ${database}`);
      await admin.end();
    }, later),
  };
}
