/** The API as a service over given stores: its parts, its HTTP server, and its ordered shutdown. */

import { Client, Connection } from '@temporalio/client';
import type { Logger } from 'pino';
import type { ApiConfig } from '../config.ts';
import { createOrderEngine } from '../engine/order-engine.ts';
import { createEventTicker } from '../events/event-ticker.ts';
import { createMetrics, type Metrics } from '../metrics.ts';
import type { PaymentProvider } from '../payments/provider.ts';
import { createOrderSigner } from '../payments/signed-order.ts';
import type { Service } from '../process.ts';
import type { Stores } from '../stores/open.ts';
import { createApp } from './app.ts';
import { showDrift } from './drift-metrics.ts';
import { showEventLag } from './event-metrics.ts';
import { createHttpServer } from './http/http-server.ts';
import { createEngineNotifier } from './orders/engine-notifier.ts';

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
  // Lazy: the API sells while Temporal is away.
  const connection = Connection.lazy(connectionOptions);
  const engine = createOrderEngine(new Client({ connection, namespace: namespace ?? 'default' }));
  showDrift(metrics, stores.driftBoard);
  showEventLag(metrics, stores);
  const eventTicker = createEventTicker(stores);
  const notifier = createEngineNotifier({ ...stores, engine, log });
  let stopping = false;
  const { handle } = createApp({
    ...stores,
    engine,
    provider,
    signer: createOrderSigner(config.ORDER_SIGNING_SECRETS),
    notifier,
    eventTicker,
    metrics,
    jwtSecret: config.JWT_SECRET,
    corsOrigins: config.CORS_ORIGINS ?? [],
    trustedProxyHops: config.TRUSTED_PROXY_HOPS,
    demo:
      config.DEMO_SALE_ID === undefined
        ? undefined
        : { saleId: config.DEMO_SALE_ID, temporalUiUrl: config.TEMPORAL_UI_URL },
    isStopping: () => stopping,
    log,
  });
  const server = createHttpServer(handle);
  const address = await server.listen(config.API_PORT, config.API_HOST);
  log.info({ address }, 'api ready');
  return {
    ended: server.ended,
    async stop() {
      stopping = true;
      eventTicker.stop();
      await server.close();
      await notifier.drain();
      await connection.close();
      await stores.close();
    },
  };
}
