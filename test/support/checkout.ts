/**
 * The whole service in this process, on real servers: API, sandbox provider, worker and relay, with the
 * driver of a shop. It closes itself.
 */

import type { Client } from '@temporalio/client';
import type { Logger } from 'pino';
import { inject } from 'vitest';
import type { AppDeps } from '../../src/api/app.ts';
import type { OrderEngine } from '../../src/engine/order-engine.ts';
import type { PaymentProvider } from '../../src/providers/provider.ts';
import type { StoreConfig, Stores } from '../../src/stores/open.ts';
import { closeOnce } from './close-later.ts';
import { openHttpApp, WEBHOOK_SECRET, type HttpApp, type HttpAppOptions } from './http-app.ts';
import { openShop, type Shop } from './shop.ts';
import { openTestStores, type TestStores } from './stores.ts';
import { openEngine } from './workflows/engines.ts';
import { createNamespace } from './workflows/temporal.ts';
import { startWholeWorker } from './workflows/whole-worker.ts';
import { startWorker } from './workflows/worker.ts';

export interface CheckoutOptions extends Pick<HttpAppOptions, 'fees'> {
  stores?: Partial<StoreConfig>;
  /** What the API and the relay write; by default nothing. */
  log?: Logger;
  /** Replaces parts of the API. */
  overrides?: Partial<AppDeps>;
  /** Puts other stores under the API and the worker, made of the checkout's own, which stay as they are. */
  under?: (stores: TestStores) => Stores;
  /** Has the reconciliation run by its schedule. */
  reconcileEveryMs?: number;
  /** Puts something between the worker and the provider. */
  inFront?: (provider: PaymentProvider) => PaymentProvider;
  /**
   * By default the parts of a worker that sell. `whole`: all of its service, on stores of its own, so not on
   * those of `under`. `none`: a test starts one, or has the API alone.
   */
  worker?: 'whole' | 'none';
  /** More settings of a whole worker. */
  workerEnv?: Record<string, string>;
  /** By default one that no other test has. */
  namespace?: string;
  /** Of a server that only this test has; it may be away. */
  temporalAddress?: string;
}

export interface Checkout extends HttpApp, Shop {
  stores: TestStores;
  engine: OrderEngine;
  client: Client;
}

/** Opened in order, closed in the opposite one; `close()` does so sooner than the end of its tests. */
export async function openCheckout(options: CheckoutOptions = {}): Promise<Checkout> {
  const { fees, log, worker, reconcileEveryMs, temporalAddress = inject('temporalAddress') } = options;
  const closers: (() => Promise<void>)[] = [];
  const [stores, namespace] = await Promise.all([
    openTestStores(options.stores),
    options.namespace ?? createNamespace(),
  ]);
  closers.push(stores.close);
  const { engine, client, close: closeEngine } = await openEngine(namespace, temporalAddress);
  closers.push(closeOnce(closeEngine));
  const under = options.under?.(stores) ?? stores;
  const overrides = { ...(log && { log }), ...options.overrides };
  const app = await openHttpApp({ stores: under, engine, overrides, ...(fees && { fees }) });
  closers.push(app.close);
  const provider = options.inFront?.(app.provider) ?? app.provider;
  if (worker === undefined) {
    const selling = await startWorker({
      stores: under,
      provider,
      namespace,
      ...(log && { log }),
      ...(reconcileEveryMs !== undefined && { reconcileEveryMs }),
    });
    closers.push(closeOnce(selling.stop));
  } else if (worker === 'whole') {
    const { providerUrl } = app;
    const env = {
      ...(reconcileEveryMs !== undefined && { RECONCILE_EVERY_SECONDS: String(reconcileEveryMs / 1_000) }),
      ...options.workerEnv,
    };
    const given = { stores, provider, providerUrl, webhookSecret: WEBHOOK_SECRET, client, temporalAddress };
    closers.push(closeOnce(await startWholeWorker({ ...given, env })));
  }
  const close = async (): Promise<void> => {
    for (const closeOne of closers.toReversed()) await closeOne();
  };
  return { ...app, ...openShop({ ...app, stores }), stores, engine, client, close };
}
