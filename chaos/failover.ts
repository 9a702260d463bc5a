/**
 * A failover in mid-sale after which the old server lives on as a replica: how soon purchases, payments and
 * orders go on, and what becomes of what was not replicated.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { pino } from 'pino';
import { openConsole } from '../sandbox/console.ts';
import { auditAll } from '../src/audit/run-audit.ts';
import { migrate } from '../src/mysql/migrate.ts';
import { openProvider } from '../src/providers/open.ts';
import { createPaced } from '../src/providers/pacing.ts';
import { openStores } from '../src/stores/open.ts';
import { appEnv, demoSecrets, startApi, startProvider, startWorker } from '../stack/app.ts';
import { findFreePort } from '../stack/processes/ports.ts';
import type { Processes } from '../stack/processes/processes.ts';
import { locateTemporal, startTemporal } from '../stack/servers/temporal.ts';
import type { Calls, Heard } from './caller.ts';
import { checkHistory, emptyHistory, type History, type Span } from './history.ts';
import { countLost, findUnrecorded } from './loss-checks.ts';
import { awaitRest, readBooks } from './money.ts';
import { startMariaPair, startRedisPair, type Closer, type Moved } from './pairs.ts';
import { createRandom } from './random.ts';
import { openSale, PAYMENT_WINDOW_MS, readRecorded } from './sale.ts';
import { createShopper, type Shopper } from './shopper.ts';

export const FAILED_OVER = ['redis', 'mysql'] as const;
type FailedOver = (typeof FAILED_OVER)[number];

const USERS = 200;
/** Of the purchases: what two cores take beside all the servers. The others run out of their window. */
const PAYING_SHARE = 0.2;
const WARM_UP_MS = 8_000;
/** Twice as long as a failover may take. */
const AFTER_MS = 20_000;
const PATIENCE_MS = 60_000;
/** A paid order that MySQL has lost is stored again a minute after its payment was found. */
const END_PATIENCE_MS = PAYMENT_WINDOW_MS + 5 * 60_000;
/** The auditor reads only, and starts nothing in the engine. */
const READ_ONLY = { ENGINE_BUDGET: 1, MYSQL_STORES_PER_SECOND: 1 };
const PROVIDER_CALLS_PER_SECOND = 1_000;

export interface FailoverOptions {
  store: FailedOver;
  /** For so long before it takes over the replica gets nothing. */
  lagMs: number;
  purchasesPerSecond: number;
  progress: (line: string) => void;
}

/** From when new connections reached the new server. Undefined: it never came to that. */
interface Recovered {
  /** Until the first was answered. */
  firstMs: number | undefined;
  /** Until the last that was refused for want of a store, or not answered; 0: none was. */
  refusedMs: number;
}

export interface FailoverReport {
  store: FailedOver;
  lagMs: number;
  missing: string;
  purchase: Recovered;
  /** Payment pages opened. */
  payment: Recovered;
  /** Until the first order was seen as paid whose page was opened after the move. */
  paidMs: number | undefined;
  /** Of purchases and payments before the move: the machine could not keep up where there were any. */
  refusedBefore: number;
  /** How the purchases were answered that were sent within ten seconds of the move. */
  answers: { accepted: number; refused: number; others: number };
  accepted: number;
  /** Orders by how they ended. */
  ends: ReadonlyMap<string, number>;
  lost: number;
  faults: string[];
}

export async function runFailover(
  processes: Processes,
  crashes: readonly string[],
  { store, lagMs, purchasesPerSecond, progress }: FailoverOptions,
): Promise<FailoverReport> {
  const closers: Closer[] = [];
  try {
    const stage = await openStage(processes, store, progress, (close) => closers.push(close));
    const saleId = `failover-${store}`;
    await openSale(stage, saleId);
    const history = emptyHistory();
    const heard: Heard[] = [];
    const crowd = await openCrowd(stage.apiUrl, saleId, history, heard);
    const over = new AbortController();
    const shopping = crowd.shop(purchasesPerSecond, over.signal);
    await delay(WARM_UP_MS);
    const moved = await stage.pair.failOver(lagMs);
    progress(`${store} has moved; ${moved.missing} were not replicated`);
    if (store === 'redis') {
      history.losses.push({ ...moved.apart, name: 'failover' });
      history.redisStruck.push(moved.apart);
    }
    await delay(AFTER_MS);
    over.abort();
    progress(`${history.acceptances.length} orders accepted; waiting for their ends`);
    const ends = await shopping;
    return {
      store,
      lagMs,
      missing: moved.missing,
      ...measure(moved, heard, history),
      accepted: history.acceptances.length,
      ends,
      lost: [...countLost(history).values()].reduce((sum, count) => sum + count, 0),
      faults: [
        ...(await judge(stage, saleId, history, store === 'mysql' && lagMs > 0)),
        ...crashes.map((name) => `${name} ended by itself`),
        ...['open', 'no answer'].flatMap((end) => (ends.has(end) ? [`${ends.get(end)} visits: ${end}`] : [])),
      ],
    };
  } finally {
    for (const close of closers.toReversed()) await close();
  }
}

/** @returns what is wrong once all has come to rest */
async function judge(
  stage: Stage,
  saleId: string,
  history: History,
  isMysqlSetBack: boolean,
): Promise<string[]> {
  const unrest = await awaitRest(stage, saleId);
  const unrecorded = findUnrecorded(history);
  const accepted = new Set(history.acceptances.map(({ orderNo }) => orderNo));
  const audits = await auditAll(stage, [
    { kind: 'sale', saleId, accepted: [...accepted].filter((orderNo) => !unrecorded.has(orderNo)) },
    { kind: 'strays' },
  ]);
  const { uneven } = await readBooks(stage, saleId);
  // What was answered of commits that MySQL has lost was true when it was answered.
  const untrue = isMysqlSetBack ? [] : checkHistory(history, await readRecorded(stage, saleId));
  return [
    ...[...untrue, ...uneven].map(({ check, subject, detail }) => `${check}: ${subject}: ${detail}`),
    ...audits.flatMap(({ findings }) =>
      findings.map(({ rule, subject, detail }) => `${rule}: ${subject}: ${detail}`),
    ),
    ...unrest,
  ];
}

type Stage = Awaited<ReturnType<typeof openStage>>;

/** The servers, one API, one worker and the provider. */
async function openStage(
  processes: Processes,
  store: FailedOver,
  progress: (line: string) => void,
  onClose: (close: Closer) => void,
) {
  const pairs = {
    redis: await startRedisPair(processes, progress, onClose),
    mysql: await startMariaPair(processes, progress, onClose),
  };
  onClose(() => processes.stopAll());
  const [redisUrl, mysqlUrl] = [pairs.redis.url, pairs.mysql.url];
  const binary = await locateTemporal(progress);
  const { address: temporalAddress } = await startTemporal({ processes, binary, durable: true });
  const silent = pino({ level: 'silent' });
  const stores = await openStores({ REDIS_URL: [redisUrl], MYSQL_URL: mysqlUrl, ...READ_ONLY }, silent);
  onClose(() => stores.close());
  await migrate(stores.pool, silent);
  await stores.deployment.check();
  const [apiUrl, providerUrl] = [
    `http://127.0.0.1:${await findFreePort()}`,
    `http://127.0.0.1:${await findFreePort()}`,
  ];
  const servers = { redisUrl, mysqlUrl, temporalAddress, temporalUiUrl: undefined };
  const env = appEnv({ servers, urls: { apiUrl, providerUrl } });
  await Promise.all([
    startProvider(processes, { providerUrl, apiUrl }),
    startApi(processes, { name: 'api', env }),
    startWorker(processes, { name: 'worker', env }),
  ]);
  const connection = await Connection.connect({ address: temporalAddress });
  onClose(() => connection.close());
  return {
    pair: pairs[store],
    apiUrl,
    stores,
    client: new Client({ connection }),
    providerConsole: openConsole({
      url: providerUrl,
      apiKey: demoSecrets.providerApiKey,
      patienceMs: PATIENCE_MS,
    }),
    provider: openProvider(
      {
        PAYMENT_PROVIDER_URL: providerUrl,
        PAYMENT_PROVIDER_API_KEY: demoSecrets.providerApiKey,
        WEBHOOK_SECRETS: [demoSecrets.webhook],
      },
      stores.deployment,
      createPaced(stores.providerPace(PROVIDER_CALLS_PER_SECOND), 'background'),
    ),
  };
}

async function openCrowd(apiUrl: string, saleId: string, history: History, heard: Heard[]) {
  const random = createRandom(1);
  const calls: Calls = {
    made: 0,
    repeated: 0,
    unanswered: 0,
    longestMs: 0,
    heard: (call) => void heard.push(call),
  };
  const shoppers = await Promise.all(
    Array.from({ length: USERS }, (_, i) =>
      createShopper({ apiUrls: [apiUrl], userId: `shopper-${i}`, random, history, calls }),
    ),
  );

  /** @returns how the order ended */
  async function visit(shopper: Shopper): Promise<string> {
    const order = await shopper.buy(saleId, [{ sku: 'lamp', quantity: 1 }], Date.now() + PATIENCE_MS);
    if (order === undefined) return 'no answer';
    if (typeof order === 'string') return order;
    const untilMs = Date.now() + END_PATIENCE_MS;
    if (random.next() < PAYING_SHARE) await shopper.pay(order.orderNo, untilMs);
    else await delay(PAYMENT_WINDOW_MS);
    const end = await shopper.follow(order.orderNo, untilMs, { by: 'long-poll' });
    return end?.status === 'failed' ? `failed (${end.reason})` : (end?.status ?? 'open');
  }

  return {
    /** At an even pace until `over`. @returns how the visits ended */
    async shop(perSecond: number, over: AbortSignal): Promise<Map<string, number>> {
      const ends = new Map<string, number>();
      const visits: Promise<void>[] = [];
      const startedMs = performance.now();
      while (!over.aborted) {
        const shopper = random.pick(shoppers);
        visits.push(visit(shopper).then((end) => void ends.set(end, (ends.get(end) ?? 0) + 1)));
        const dueMs = startedMs + (visits.length * 1_000) / perSecond;
        await delay(Math.max(0, dueMs - performance.now()));
      }
      await Promise.all(visits);
      return ends;
    },
  };
}

const PURCHASE = /^POST \/v1\/orders$/;
const PAYMENT = /^POST \/v1\/orders\/[^/]+\/payment$/;
/** The goal: a failover costs no more. */
const WINDOW_MS = 10_000;

function measure({ movedAtMs }: Moved, heard: readonly Heard[], history: History) {
  const isAway = ({ status = 503 }: Heard) => status >= 500;
  const after = heard.filter(({ startMs }) => startMs >= movedAtMs);
  const since = (ends: readonly Span[]) =>
    ends.length === 0 ? undefined : Math.min(...ends.map(({ endMs }) => endMs)) - movedAtMs;
  const recover = (request: RegExp): Recovered => {
    const asked = after.filter((call) => request.test(call.request));
    const away = asked.filter(isAway);
    return {
      firstMs: since(asked.filter(({ status = 503 }) => status < 300)),
      refusedMs: Math.max(0, ...away.map(({ endMs }) => endMs - movedAtMs)),
    };
  };
  const late = new Set(
    history.payable.flatMap(({ startMs, orderNo }) => (startMs >= movedAtMs ? [orderNo] : [])),
  );
  const bought = after.filter(
    ({ request, startMs }) => PURCHASE.test(request) && startMs < movedAtMs + WINDOW_MS,
  );
  const count = (of: (status?: number) => boolean) => bought.filter(({ status }) => of(status)).length;
  const accepted = count((status = 503) => status < 300);
  const refused = count((status) => status === 503);
  return {
    refusedBefore: heard.filter((call) => isAway(call) && call.endMs < movedAtMs).length,
    purchase: recover(PURCHASE),
    payment: recover(PAYMENT),
    paidMs: since(history.answers.filter(({ orderNo, status }) => status === 'paid' && late.has(orderNo))),
    answers: { accepted, refused, others: bought.length - accepted - refused },
  };
}

export function printFailovers(reports: readonly FailoverReport[]): void {
  const seconds = (ms: number | undefined) => (ms === undefined ? 'never' : (ms / 1_000).toFixed(1));
  console.table(
    reports.map(
      ({ store, lagMs, missing, purchase, payment, paidMs, answers, accepted, ends, lost, ...rest }) => ({
        store,
        'lag (s)': lagMs / 1_000,
        'refused before': rest.refusedBefore,
        'not replicated': missing,
        'first purchase (s)': seconds(purchase.firstMs),
        'last refused (s)': seconds(purchase.refusedMs),
        'first payment (s)': seconds(payment.firstMs),
        'last payment refused (s)': seconds(payment.refusedMs),
        'first paid (s)': seconds(paidMs),
        '202 / 503 / others': `${answers.accepted} / ${answers.refused} / ${answers.others}`,
        accepted,
        ends: [...ends].map(([how, count]) => `${count} ${how}`).join(', '),
        lost,
        faults: rest.faults.length,
      }),
    ),
  );
  for (const { faults } of reports) for (const fault of faults.slice(0, 50)) console.log(`  ${fault}`);
}
