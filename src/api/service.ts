/** The API as a service over given stores: its parts, its HTTP server, and its ordered shutdown. */

import assert from 'node:assert/strict';
import { Client, Connection, type ConnectionOptions } from '@temporalio/client';
import type { Logger } from 'pino';
import type { ApiConfig } from '../config.ts';
import { processPatient, providerPatient, storePatients, warnAtStart } from '../doctor/doctor.ts';
import { createEngineNotifier, createOrderEngine } from '../engine/order-engine.ts';
import { createEventTicker } from '../events/feed.ts';
import { createMetrics, type Metrics } from '../metrics.ts';
import type { Service } from '../process.ts';
import type { PaymentProvider } from '../providers/provider.ts';
import { createOrderSigner } from '../providers/signed-order.ts';
import { createStatusBoard, statusReaders } from '../status/board.ts';
import type { Stores } from '../stores/open.ts';
import { createApiNotes } from './api-notes.ts';
import { createApp } from './app.ts';
import { READ_AHEAD_EVERY_MS } from './calls/sale-views.ts';
import { ticketKeys } from './calls/ticket.ts';
import { createVerification } from './calls/verification.ts';
import type { DemoOptions } from './demo-routes.ts';
import { createDeploymentChecks } from './deployment-checks.ts';
import { showBoard } from './gauges.ts';
import { createTokenSigner, createKeySet } from './http/auth.ts';
import { createHttpServer } from './http/http-server.ts';
import { WATCHER_BOUNDS } from './watchers.ts';

export interface ApiParts {
  stores: Stores;
  provider: PaymentProvider;
  log: Logger;
  /** By default this process's own. */
  metrics?: Metrics;
}

/** The stores are closed with the service. */
export async function startApi(
  config: ApiConfig,
  { stores, provider, log, metrics = createMetrics() }: ApiParts,
): Promise<Service> {
  const { connectionOptions, namespace } = config.temporal;
  const taskQueue = config.TEMPORAL_TASK_QUEUE;
  // Lazy: the API sells while Temporal is away.
  const openClient = (options: ConnectionOptions = {}) =>
    new Client({
      connection: Connection.lazy({ ...connectionOptions, ...options }),
      namespace: namespace ?? 'default',
    });
  // Without the client's own repeats: one that is due when its connection is closed would end the process.
  const openToAsk = () => openClient({ interceptors: [] });
  const checks = createDeploymentChecks({ stores, openClient: openToAsk, taskQueue, log });
  await checks.begin().catch(async (error: unknown) => {
    await stores.close();
    throw error;
  });
  const client = openClient();
  const engine = createOrderEngine(client, { taskQueue });
  const statusBoard = createStatusBoard(statusReaders(async () => stores, stores));
  showBoard(metrics, statusBoard);
  const eventTicker = createEventTicker(stores);
  const notifier = createEngineNotifier({ ...stores, engine, log });
  const notes = createApiNotes({ ...stores, metrics, log });
  const tokens = tokenRulesOf(config);
  const keys = config.JWT_JWKS_URL === undefined ? undefined : createKeySet(config.JWT_JWKS_URL, log);
  const ticketKeySet =
    config.TICKET_JWKS_URL === undefined ? undefined : createKeySet(config.TICKET_JWKS_URL, log);
  let stopping = false;
  const { handle, saleViews, refusedPurchases, finish, stopWatching } = createApp({
    ...stores,
    engine,
    provider,
    signer: createOrderSigner(config.ORDER_SIGNING_SECRETS),
    notifier,
    eventTicker,
    metrics,
    showsMetrics: config.METRICS_PORT === undefined,
    purchasesAtOnce: config.PURCHASES_AT_ONCE,
    statusBoard,
    tokens: { ...tokens, keys },
    notes,
    corsOrigins: config.CORS_ORIGINS ?? [],
    tickets: {
      keys: ticketKeys(
        ticketKeySet ? { secret: undefined, keys: ticketKeySet } : { secret: tokens.secret, keys },
      ),
      issuer: config.TICKET_ISSUER,
      audience: config.TICKET_AUDIENCE,
    },
    verification: createVerification(config.ORDER_SIGNING_SECRETS, config.TICKET_AUDIENCE),
    trustedProxyHops: config.TRUSTED_PROXY_HOPS,
    pushRules: {
      allowPrivate: config.PUSH_ALLOW_PRIVATE === 'true',
      requireHttps: config.NODE_ENV === 'production',
    },
    demo: demoOf(config, tokens),
    isStopping: () => stopping,
    watcherBounds: {
      ...WATCHER_BOUNDS,
      watchersMax: config.WATCHERS_AT_ONCE,
      watchersPerUserMax: config.WATCHERS_OF_USER,
    },
    userPurchasesPerMinute: config.USER_PURCHASES_PER_MINUTE,
    finalAnswerHeader: headerOf(config.FINAL_ANSWER_HEADER),
    log,
  });
  const server = createHttpServer(handle, { keepAliveTimeoutMs: config.KEEP_ALIVE_SECONDS * 1_000 });
  // The first callers would wait for them.
  await Promise.all([keys?.begun, ticketKeySet?.begun, saleViews.readAhead()]);
  const address = await server.listen(config.API_PORT, config.API_HOST);
  log.info({ address }, 'api ready');
  const checking = new AbortController();
  const checked = checks.goOn(checking.signal);
  const looked = Promise.all([
    statusBoard.run(checking.signal),
    notes.run(checking.signal),
    refusedPurchases.run(checking.signal),
  ]);
  const readingAhead = setInterval(() => void saleViews.readAhead(), READ_AHEAD_EVERY_MS);
  const patients = [
    ...storePatients(async () => stores, stores),
    providerPatient(config),
    processPatient('api'),
  ];
  void warnAtStart(patients, log, checking.signal);
  return {
    ended: Promise.race([server.ended, checked.then(() => server.ended)]),
    drain: {
      ms: config.DRAIN_SECONDS * 1_000,
      begin() {
        stopping = true;
        server.drain();
      },
    },
    async stop() {
      stopping = true;
      eventTicker.stop();
      stopWatching();
      await server.close();
      await finish();
      keys?.stop();
      ticketKeySet?.stop();
      await notifier.drain();
      clearInterval(readingAhead);
      checking.abort();
      await checked.catch(() => {});
      await looked;
      await client.connection.close();
      await stores.close();
    },
  };
}

function tokenRulesOf(config: ApiConfig) {
  return {
    secret: config.JWT_SECRET,
    issuers: config.JWT_ISSUER,
    audiences: config.JWT_AUDIENCE,
    userClaim: config.JWT_USER_CLAIM,
  };
}

/** Of `Name: value`. */
function headerOf(line: string | undefined) {
  if (line === undefined) return undefined;
  const [name = ''] = line.split(':');
  return { name, value: line.slice(name.length + 2) };
}

function demoOf(config: ApiConfig, tokens: ReturnType<typeof tokenRulesOf>): DemoOptions | undefined {
  const { DEMO_SALE_ID: saleId, TEMPORAL_UI_URL: temporalUiUrl, JWT_SECRET: secret } = config;
  if (saleId === undefined) return undefined;
  assert(secret !== undefined, 'a demo without the secret is refused with the configuration');
  return { saleId, temporalUiUrl, sign: createTokenSigner({ ...tokens, secret }) };
}
