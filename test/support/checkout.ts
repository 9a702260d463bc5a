/** The whole service in this process, on real servers: API, sandbox provider, worker and relay. */

import type { Client } from '@temporalio/client';
import type { Logger } from 'pino';
import type { AppDeps } from '../../src/api/app.ts';
import type { PaymentProvider } from '../../src/providers/provider.ts';
import type { StoreConfig, Stores } from '../../src/stores/open.ts';
import { openHttpApp, type HttpApp, type HttpAppOptions } from './http-app.ts';
import { openTestStores, type TestStores } from './stores.ts';
import { openEngine } from './workflows/engines.ts';
import { createNamespace } from './workflows/temporal.ts';
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
}

export interface Checkout extends Omit<HttpApp, 'close'> {
  stores: TestStores;
  client: Client;
  close(): Promise<void>;
}

/** Call in beforeAll, and `close()` in afterAll. Opened in order, closed in the opposite one. */
export async function openCheckout(options: CheckoutOptions = {}): Promise<Checkout> {
  const closers: (() => Promise<void>)[] = [];
  const close = async () => {
    for (const closeOne of closers.splice(0).toReversed()) await closeOne();
  };
  try {
    const [stores, namespace] = await Promise.all([openTestStores(options.stores), createNamespace()]);
    closers.push(() => stores.close());
    const { engine, client, close: closeEngine } = await openEngine(namespace);
    closers.push(closeEngine);
    const under = options.under?.(stores) ?? stores;
    const { fees, log } = options;
    const overrides = { ...(log && { log }), ...options.overrides };
    const app = await openHttpApp({ stores: under, engine, overrides, ...(fees && { fees }) });
    closers.push(() => app.close());
    const provided = options.inFront?.(app.provider) ?? app.provider;
    const { reconcileEveryMs } = options;
    const worker = await startWorker({
      stores: under,
      provider: provided,
      namespace,
      ...(log && { log }),
      ...(reconcileEveryMs !== undefined && { reconcileEveryMs }),
    });
    closers.push(() => worker.stop());
    return { ...app, stores, client, close };
  } catch (error) {
    await close();
    throw error;
  }
}
