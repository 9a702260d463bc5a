/** A whole checkout to measure: real servers in a temporary folder; API, worker and provider as processes. */

import { Client, Connection } from '@temporalio/client';
import { pino } from 'pino';
import { ulid } from 'ulidx';
import { DEFAULT_DEPLOYMENT_NAME } from '../src/limits.ts';
import { createMysqlPool } from '../src/mysql/connection.ts';
import { openProvider } from '../src/providers/open.ts';
import type { PaymentProvider } from '../src/providers/provider.ts';
import { connectRedis } from '../src/redis/connection.ts';
import type { Sale } from '../src/sales/sale.ts';
import { mysqlStores } from '../src/stores/bound.ts';
import { redisStores } from '../src/stores/bound.ts';
import { createDeploymentStores } from '../src/stores/deployment.ts';
import type { Stores } from '../src/stores/open.ts';
import {
  appEnv,
  demoSecrets,
  findAppUrls,
  startApp,
  startProvider,
  startWorker,
  type AppEnv,
} from '../stack/app.ts';
import { prepareDemo } from '../stack/demo-sale.ts';
import { launchServers } from '../stack/servers/servers.ts';
import { openBenchFolder } from './folder.ts';

const HOUR_MS = 60 * 60_000;

export interface BenchCheckout {
  apiUrl: string;
  providerUrl: string;
  temporalUiUrl: string | undefined;
  /** For measurements; the processes have their own. */
  stores: Pick<Stores, 'redis' | 'pool' | 'sales' | 'saleStock'>;
  provider: PaymentProvider;
  client: Client;
  /** Of the processes. */
  pids: { api: number; worker: number };
  /** While it is frozen accepted orders wait; the cores are the API's. */
  freezeWorker(): void;
  thawWorker(): void;
  freezeTemporal(): void;
  thawTemporal(): void;
  /** From then on nothing changes without a call. */
  stopWorker(): Promise<void>;
  /** After it was stopped. */
  startWorker(): Promise<void>;
  /** Opens a sale of one SKU, `unit`, at 10.00. */
  openSale(units: number, paymentWindowMs: number): Promise<string>;
}

/** A few hundred shoppers buy as a crowd of any size would. */
export const ANY_PACE = { USER_PURCHASES_PER_MINUTE: '1000000' };

/** Starts everything, runs `work`, and stops exactly what was started, whatever happened. */
export async function withBenchCheckout(
  work: (checkout: BenchCheckout) => Promise<void>,
  env: AppEnv = {},
): Promise<void> {
  const progress = (line: string): void => console.log(`· ${line}`);
  const folder = await openBenchFolder(progress);
  const { processes } = folder;
  try {
    const servers = await launchServers(processes, { fresh: true, progress });
    const urls = await findAppUrls();
    const { redisUrl, mysqlUrl } = servers;
    const demoSaleId = await prepareDemo({ redisUrl, mysqlUrl, progress });
    await startProvider(processes, urls);
    const app = { servers, urls, demoSaleId, env: { ...ANY_PACE, ...env } };
    await startApp(processes, app);
    const pool = createMysqlPool(mysqlUrl);
    const redis = await connectRedis(redisUrl.split(','), pino({ level: 'silent' }));
    const own = { redis, pool, name: DEFAULT_DEPLOYMENT_NAME, log: pino({ level: 'silent' }) };
    const deployment = createDeploymentStores(own);
    await deployment.check();
    const connection = await Connection.connect({ address: servers.temporalAddress });
    const { sales } = mysqlStores(pool);
    const { saleStock } = redisStores(redis);
    try {
      await work({
        ...urls,
        temporalUiUrl: servers.temporalUiUrl,
        stores: { redis, pool, sales, saleStock },
        provider: openProvider(
          {
            PAYMENT_PROVIDER_URL: urls.providerUrl,
            PAYMENT_PROVIDER_API_KEY: demoSecrets.providerApiKey,
            WEBHOOK_SECRETS: [demoSecrets.webhook],
          },
          deployment,
        ),
        client: new Client({ connection }),
        pids: { api: processes.pid('api'), worker: processes.pid('worker') },
        freezeWorker: () => processes.freeze('worker'),
        thawWorker: () => processes.thaw('worker'),
        freezeTemporal: () => processes.freeze('temporal'),
        thawTemporal: () => processes.thaw('temporal'),
        stopWorker: () => processes.stop('worker'),
        startWorker: () => startWorker(processes, { name: 'worker', env: { ...appEnv(app), ...app.env } }),
        openSale: (units, paymentWindowMs) => openSale(sales, saleStock, units, paymentWindowMs),
      });
    } finally {
      redis.disconnect();
      await pool.end();
      await connection.close();
    }
  } finally {
    await folder.close();
  }
}

export async function openSale(
  sales: Stores['sales'],
  saleStock: Stores['saleStock'],
  units: number,
  paymentWindowMs: number,
): Promise<string> {
  const sale: Sale = {
    saleId: `bench-${ulid().toLowerCase()}`,
    name: 'Bench',
    currency: 'EUR',
    opensAtMs: Date.now() - 1000,
    closesAtMs: Date.now() + HOUR_MS,
    paused: false,
    paymentWindowMs,
    refundRestoresLimit: true,
    limitPerUser: null,
    maxUnpaidHolds: null,
    addressPurchasesPerMinute: null,
    ticketRequired: false,
    skus: [{ sku: 'unit', name: 'Unit', unitPrice: 1_000, total: units, limitPerUser: null }],
  };
  await sales.create(sale);
  await sales.warmUp(sale.saleId, saleStock);
  return sale.saleId;
}
