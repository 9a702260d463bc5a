/** The API as a service over given stores: its parts, its HTTP server, and its ordered shutdown. */

import { createServer, type Server } from 'node:http';
import { Client, Connection } from '@temporalio/client';
import type { Logger } from 'pino';
import type { ApiConfig } from '../config.ts';
import { createOrderEngine } from '../engine/order-engine.ts';
import type { PaymentProvider } from '../payments/provider.ts';
import type { Service } from '../process.ts';
import type { Stores } from '../stores/open.ts';
import { createApp } from './app.ts';
import { createEngineNotifier } from './engine-notifier.ts';

/** A whole request must have arrived by then: carts are small, slow senders hold a socket for nothing. */
const REQUEST_TIMEOUT_MS = 15_000;
const HEADERS_TIMEOUT_MS = 10_000;
/** Longer than common load balancers keep idle connections (60 s), so that they close first. */
const KEEP_ALIVE_TIMEOUT_MS = 65_000;
/** While stopping: a connection that has just been answered is closed before it asks again. */
const IDLE_SWEEP_MS = 100;

export interface ApiParts {
  stores: Stores;
  provider: PaymentProvider;
  log: Logger;
}

/** The stores are closed with the service. */
export async function startApi(config: ApiConfig, { stores, provider, log }: ApiParts): Promise<Service> {
  const { connectionOptions, namespace } = config.temporal;
  // Lazy: the API sells while Temporal is away.
  const connection = Connection.lazy(connectionOptions);
  const engine = createOrderEngine(new Client({ connection, namespace: namespace ?? 'default' }));
  const notifier = createEngineNotifier({ ...stores, engine, log });
  let stopping = false;
  const app = createApp({
    ...stores,
    engine,
    provider,
    notifier,
    jwtSecret: config.JWT_SECRET,
    trustedProxyHops: config.TRUSTED_PROXY_HOPS,
    demo:
      config.DEMO_SALE_ID === undefined
        ? undefined
        : { saleId: config.DEMO_SALE_ID, temporalUiUrl: config.TEMPORAL_UI_URL },
    isStopping: () => stopping,
    log,
  });
  const handle = app.callback();
  const server = createServer(
    {
      requestTimeout: REQUEST_TIMEOUT_MS,
      headersTimeout: HEADERS_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    },
    // Koa answers every error itself; its promise never rejects.
    (request, response) => void handle(request, response),
  );
  await listen(server, config.API_PORT, config.API_HOST);
  log.info({ address: server.address() }, 'api ready');
  return {
    ended: new Promise<void>((_, reject) => server.once('error', reject)),
    async stop() {
      stopping = true;
      await close(server);
      await notifier.drain();
      await connection.close();
      await stores.close();
    },
  };
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen(port, host, () => resolve());
  });
}

/** Answers what is under way, then closes; connections that are kept alive, as soon as they are idle. */
async function close(server: Server): Promise<void> {
  const sweep = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_MS);
  await new Promise<void>((resolve, reject) => {
    server.close((error) => (error ? reject(error) : resolve()));
  }).finally(() => clearInterval(sweep));
}
