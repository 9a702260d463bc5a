/** The demo sale of `npm start`: migrated, created and warmed up, so that there is something to buy. */

import { pino } from 'pino';
import { DEFAULT_PAYMENT_WINDOW_MS } from '../src/domain/limits.ts';
import type { Sale } from '../src/domain/sale.ts';
import { migrate } from '../src/stores/migrate.ts';
import { openStores } from '../src/stores/open.ts';

const SALE_ID = 'demo';
/** Long enough that a checkout somebody comes back to still sells. */
const OPEN_FOR_MS = 10 * 365 * 24 * 60 * 60 * 1000;

function demoSale(nowMs: number): Sale {
  return {
    saleId: SALE_ID,
    name: 'Holdfast demo sale',
    currency: 'EUR',
    opensAtMs: nowMs,
    closesAtMs: nowMs + OPEN_FOR_MS,
    paused: false,
    paymentWindowMs: DEFAULT_PAYMENT_WINDOW_MS,
    skus: [
      { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000, limitPerUser: 2 },
      { sku: 'mug', name: 'Enamel mug', unitPrice: 1_450, total: 500, limitPerUser: 4 },
      { sku: 'anchor', name: 'Brass anchor, numbered', unitPrice: 24_000, total: 10, limitPerUser: 1 },
    ],
  };
}

export interface DemoOptions {
  mysqlUrl: string;
  redisUrl: string;
  progress: (line: string) => void;
}

/** Safe to repeat: what exists is left as it is. */
export async function prepareDemo({
  mysqlUrl,
  redisUrl,
  progress,
}: DemoOptions): Promise<{ saleId: string }> {
  const log = pino({ level: 'silent' });
  const stores = await openStores(
    { REDIS_URL: redisUrl.split(','), MYSQL_URL: mysqlUrl, ENGINE_BUDGET: 1, ENGINE_STARTS_PER_SECOND: 1 },
    log,
  );
  try {
    const applied = await migrate(stores.pool, log);
    progress(applied.length > 0 ? `migrated: ${applied.join(', ')}` : 'the schema is up to date');
    await stores.sales.create(demoSale(Date.now()));
    await stores.sales.warmUp(SALE_ID, stores.saleStock);
    progress(`sale "${SALE_ID}" is open`);
    return { saleId: SALE_ID };
  } finally {
    await stores.close();
  }
}
