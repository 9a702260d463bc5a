/**
 * The HTTP API on an ephemeral port, with a real sandbox provider that calls it back. No worker, no relay. It
 * closes itself.
 */

import assert from 'node:assert/strict';
import type { RequestListener } from 'node:http';
import type { Fees } from '../../sandbox/book/book-state.ts';
import { openConsole, type SandboxConsole } from '../../sandbox/console.ts';
import { createSandboxProvider } from '../../sandbox/server.ts';
import { createApiNotes } from '../../src/api/api-notes.ts';
import { createApp, type AppDeps } from '../../src/api/app.ts';
import { ticketKeys } from '../../src/api/calls/ticket.ts';
import { createVerification } from '../../src/api/calls/verification.ts';
import type { DemoOptions } from '../../src/api/demo-routes.ts';
import { createTokenSigner, USUAL_RULES } from '../../src/api/http/auth.ts';
import { createHttpServer, type HttpBounds } from '../../src/api/http/http-server.ts';
import { WATCHER_BOUNDS } from '../../src/api/watchers.ts';
import { createEngineNotifier, type OrderEngine } from '../../src/engine/order-engine.ts';
import { createEventTicker } from '../../src/events/feed.ts';
import { PURCHASES_AT_ONCE } from '../../src/limits.ts';
import { createMetrics } from '../../src/metrics.ts';
import type { PaymentProvider } from '../../src/providers/provider.ts';
import { createRemoteAdapter } from '../../src/providers/remote.ts';
import { createStatusBoard, statusReaders } from '../../src/status/board.ts';
import type { Stores } from '../../src/stores/open.ts';
import { closeOnce } from './close-later.ts';
import { openShopper, JWT_SECRET, type Shopper } from './shopper.ts';
import { signer } from './signer.ts';
import { silent } from './stores.ts';
import { TICKET_AUDIENCE } from './tickets.ts';

export const PROVIDER_API_KEY = 'http-app-provider-key';
export const WEBHOOK_SECRET = 'whsec_aG9sZGZhc3QtaHR0cC1hcHAtc2VjcmV0LTE=';
/** A demo page for this sale. */
export function buildDemo(saleId: string, temporalUiUrl?: string): DemoOptions {
  return { saleId, temporalUiUrl, sign: createTokenSigner({ ...USUAL_RULES, secret: JWT_SECRET }) };
}

/** Quick repeats: a notice that meets a store which is away comes again within the test. */
const RETRY_DELAYS_MS = Array.from({ length: 200 }, () => 50);

export interface HttpAppOptions {
  stores: Stores;
  engine: OrderEngine;
  /** Replaces parts of the app, say a store that is away. */
  overrides?: Partial<AppDeps>;
  bounds?: Partial<HttpBounds>;
  /** What the sandbox charges; nothing otherwise. */
  fees?: Fees;
}

export interface HttpApp {
  url: string;
  /** Every method and path that it answers. */
  routes: readonly string[];
  provider: PaymentProvider;
  providerUrl: string;
  /** What the provider's staff do there. */
  providerConsole: SandboxConsole;
  /** A shopper of this name with a valid token; without a name, one that no other test knows. */
  shopper(userId?: string): Promise<Shopper>;
  /** Adds up the refused purchases, as the service does each second. */
  noteRefused(): Promise<void>;
  close(): Promise<void>;
}

export async function openHttpApp(options: HttpAppOptions): Promise<HttpApp> {
  const { stores, engine, overrides = {}, bounds = {} } = options;
  // It listens before there is an app, because the provider must know where to call back.
  let handle: RequestListener | undefined;
  const server = createHttpServer((request, response) => {
    assert(handle, 'no request comes before there is an app');
    handle(request, response);
  }, bounds);
  const { port } = await server.listen(0, '127.0.0.1');
  const url = `http://127.0.0.1:${port}`;
  const sandbox = await createSandboxProvider({
    host: '127.0.0.1',
    apiKey: PROVIDER_API_KEY,
    webhookUrl: `${url}/v1/webhooks/payments`,
    returnUrl: `${url}/`,
    webhookSecret: WEBHOOK_SECRET,
    retryDelaysMs: RETRY_DELAYS_MS,
    ...(options.fees && { fees: options.fees }),
    logger: silent,
  }).start(0);
  const provider = createRemoteAdapter({
    name: 'sandbox',
    baseUrl: sandbox.url,
    apiKey: PROVIDER_API_KEY,
    webhookSecrets: [WEBHOOK_SECRET],
    deployment: 'holdfast',
    requestTimeoutMs: 60_000,
  });
  const notifier = createEngineNotifier({ ...stores, engine, log: overrides.log ?? silent });
  const eventTicker = createEventTicker(stores);
  const { metrics = createMetrics(), log = silent } = overrides;
  const app = createApp({
    ...stores,
    notes: createApiNotes({ ...stores, metrics, log }),
    engine,
    provider,
    signer,
    notifier,
    eventTicker,
    metrics,
    showsMetrics: true,
    purchasesAtOnce: PURCHASES_AT_ONCE,
    statusBoard: createStatusBoard(statusReaders(async () => stores, stores)),
    tokens: { ...USUAL_RULES, secret: JWT_SECRET, keys: undefined },
    tickets: {
      keys: ticketKeys({ secret: JWT_SECRET, keys: undefined }),
      issuer: undefined,
      audience: TICKET_AUDIENCE,
    },
    verification: createVerification([JWT_SECRET], TICKET_AUDIENCE),
    trustedProxyHops: 0,
    pushRules: { allowPrivate: true, requireHttps: false },
    corsOrigins: [],
    demo: undefined,
    isStopping: () => false,
    watcherBounds: WATCHER_BOUNDS,
    // Shoppers of tests buy faster than people.
    userPurchasesPerMinute: 1_000_000,
    finalAnswerHeader: undefined,
    log: silent,
    ...overrides,
  });
  handle = app.handle;
  return {
    url,
    routes: app.routes,
    provider,
    providerUrl: sandbox.url,
    providerConsole: openConsole({ url: sandbox.url, apiKey: PROVIDER_API_KEY }),
    shopper: (userId) => openShopper(url, userId),
    noteRefused: app.refusedPurchases.note,
    close: closeOnce(async () => {
      eventTicker.stop();
      app.stopWatching();
      await sandbox.stop();
      await server.close();
      await app.finish();
      await notifier.drain();
    }),
  };
}
