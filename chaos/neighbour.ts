/**
 * A second deployment on the same Redis, MySQL server and namespace: it sells beside the storm, and what
 * strikes the stores strikes it too. Its provider is another, because the staff of the first one's collect
 * money that says no deployment.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import { pino } from 'pino';
import { createSandboxProvider } from '../sandbox/server.ts';
import type { AuditDeps } from '../src/audit/look.ts';
import { auditAll, type SaleAudit } from '../src/audit/run-audit.ts';
import { migrate } from '../src/mysql/migrate.ts';
import { openProvider } from '../src/providers/open.ts';
import { openStores, type StoreConfig, type Stores } from '../src/stores/open.ts';
import { demoSecrets, startApi, startWorker, type AppEnv } from '../stack/app.ts';
import { findFreePort } from '../stack/processes/ports.ts';
import type { Processes } from '../stack/processes/processes.ts';
import { asProduct } from '../stack/servers/accounts.ts';
import type { Calls } from './caller.ts';
import { checkHistory, emptyHistory, type History, type Violation } from './history.ts';
import { findUnrecorded } from './loss-checks.ts';
import type { Random } from './random.ts';
import { openSale, PAYMENT_WINDOW_MS, readRecorded } from './sale.ts';
import { createShopper, type Shopper } from './shopper.ts';

/** Its prefix and its task queue. */
const NAME = 'neighbour';
const DATABASE = 'holdfast_neighbour';
const SHOPPERS = 20;
/** Beside the ten of the first one. */
const EVERY_MS = 1_000;
const OPEN_ORDERS_MAX = 100;
const BUY_PATIENCE_MS = 60_000;
/** Past its window an order must end within this, whatever has struck. */
const END_PATIENCE_MS = 150_000;

export interface Neighbour extends AuditDeps {
  stores: Stores;
  apiUrls: string[];
  /** Its processes, by name. */
  starters: ReadonlyMap<string, () => Promise<void>>;
  close(): Promise<void>;
}

export interface NeighbourReport {
  accepted: number;
  ends: ReadonlyMap<string, number>;
  violations: Violation[];
  audits: SaleAudit[];
}

/** @param env of the first deployment's processes */
export async function startNeighbour(
  processes: Processes,
  { first, config, env, client }: { first: Stores; config: StoreConfig; env: AppEnv; client: Client },
): Promise<Neighbour> {
  await first.pool.query(`CREATE DATABASE ${DATABASE} CHARACTER SET utf8mb4`);
  const mysqlUrl = new URL(config.MYSQL_URL);
  mysqlUrl.pathname = `/${DATABASE}`;
  const own = { REDIS_KEY_PREFIX: NAME, MYSQL_URL: mysqlUrl.href };
  const silent = pino({ level: 'silent' });
  const stores = await openStores({ ...config, ...own }, silent);
  await migrate(stores.pool, silent);
  await stores.deployment.check();
  const port = String(await findFreePort());
  const apiUrl = `http://127.0.0.1:${port}`;
  const sandbox = await createSandboxProvider({
    host: '127.0.0.1',
    apiKey: demoSecrets.providerApiKey,
    webhookUrl: `${apiUrl}/v1/webhooks/payments`,
    webhookSecret: demoSecrets.webhook,
    logger: silent,
  }).start(0);
  const ofProcesses = {
    ...env,
    REDIS_KEY_PREFIX: NAME,
    MYSQL_URL: asProduct(own.MYSQL_URL),
    TEMPORAL_TASK_QUEUE: NAME,
    API_PORT: port,
    PAYMENT_PROVIDER_URL: sandbox.url,
  };
  const starters = new Map([
    [`${NAME}-api`, () => startApi(processes, { name: `${NAME}-api`, env: ofProcesses })],
    [`${NAME}-worker`, () => startWorker(processes, { name: `${NAME}-worker`, env: ofProcesses })],
  ]);
  await Promise.all([...starters.values()].map((start) => start()));
  return {
    stores,
    client,
    taskQueue: NAME,
    provider: openProvider(
      {
        PAYMENT_PROVIDER_URL: sandbox.url,
        PAYMENT_PROVIDER_API_KEY: demoSecrets.providerApiKey,
        WEBHOOK_SECRETS: [demoSecrets.webhook],
      },
      stores.deployment,
    ),
    apiUrls: [apiUrl],
    starters,
    async close() {
      await sandbox.stop();
      await stores.close();
    },
  };
}

/**
 * Sells one order after the other until `over`, and waits for their ends.
 * @param struck what the storm does to Redis, which excuses some answers here as well
 */
export async function sellBeside(
  neighbour: Neighbour,
  {
    saleId,
    random,
    struck,
    over,
  }: { saleId: string; random: Random; struck: Pick<History, 'losses' | 'redisStruck'>; over: AbortSignal },
): Promise<NeighbourReport> {
  await openSale(neighbour, saleId);
  const { losses, redisStruck } = struck;
  const history = { ...emptyHistory(), losses, redisStruck };
  const calls: Calls = { made: 0, repeated: 0, unanswered: 0, longestMs: 0 };
  const { apiUrls } = neighbour;
  const shoppers = await Promise.all(
    Array.from({ length: SHOPPERS }, (_, i) =>
      createShopper({ apiUrls, userId: `${NAME}-${i}`, random, history, calls }),
    ),
  );
  const ends = new Map<string, number>();
  const visits = new Set<Promise<void>>();
  while (!over.aborted) {
    await delay(EVERY_MS);
    if (visits.size >= OPEN_ORDERS_MAX) continue;
    const visit: Promise<void> = buyAndEnd(random.pick(shoppers), saleId, random)
      .then((how) => void (how !== undefined && ends.set(how, (ends.get(how) ?? 0) + 1)))
      .finally(() => visits.delete(visit));
    visits.add(visit);
  }
  await Promise.all(visits);

  const unrecorded = findUnrecorded(history);
  const orderNos = new Set(history.acceptances.map(({ orderNo }) => orderNo));
  const accepted = [...orderNos].filter((orderNo) => !unrecorded.has(orderNo));
  const recorded = await readRecorded(neighbour, saleId);
  return {
    accepted: orderNos.size,
    ends,
    violations: checkHistory(history, recorded),
    audits: await auditAll(neighbour, [{ kind: 'sale', saleId, accepted }, { kind: 'strays' }]),
  };
}

/** @returns how the order ended; undefined: none was accepted */
async function buyAndEnd(shopper: Shopper, saleId: string, random: Random): Promise<string | undefined> {
  const cart = [{ sku: 'lamp', quantity: random.int(1, 2) }];
  const answer = await shopper.buy(saleId, cart, Date.now() + BUY_PATIENCE_MS);
  if (answer === undefined || typeof answer === 'string') return undefined;
  const { orderNo } = answer;
  const untilMs = Date.now() + PAYMENT_WINDOW_MS + END_PATIENCE_MS;
  const roll = random.next();
  if (roll < 0.5) await shopper.pay(orderNo, untilMs);
  else if (roll < 0.7) await shopper.cancel(orderNo, untilMs);
  return (await shopper.follow(orderNo, untilMs))?.status ?? 'open';
}
