/** The process that runs before the others: migrates the schema and, in demo mode, opens the demo sale. */

import { loadPrepareConfig, type PrepareConfig } from './config.ts';
import { prepareDemoSale } from './demo-sale.ts';
import { createLog } from './log.ts';
import { createMysqlPool, type Pool } from './stores/mysql/connection.ts';
import { migrate } from './stores/mysql/migrations/migrate.ts';
import { createSales } from './stores/mysql/sales.ts';
import { connectRedis } from './stores/redis/connection.ts';
import { createSaleStock } from './stores/redis/sale-stock.ts';

const config = loadPrepareConfig();
const log = createLog('prepare', config.LOG_LEVEL);
const pool = createMysqlPool(config.MYSQL_URL);
try {
  const applied = await migrate(pool, log);
  log.info({ applied }, applied.length > 0 ? 'migrated' : 'the schema is up to date');
  if (config.DEMO_SALE_ID !== undefined) await openDemoSale(config, config.DEMO_SALE_ID, pool);
} finally {
  await pool.end();
}

async function openDemoSale({ REDIS_URL }: PrepareConfig, saleId: string, mysql: Pool): Promise<void> {
  const redis = await connectRedis(REDIS_URL, log);
  try {
    await prepareDemoSale(saleId, createSales(mysql), createSaleStock(redis));
    log.info({ saleId }, 'the demo sale is open');
  } finally {
    redis.disconnect();
  }
}
