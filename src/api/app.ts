/** The HTTP API: every route in one place. Testable without a port. */

import { bodyParser } from '@koa/bodyparser';
import { Router } from '@koa/router';
import Koa from 'koa';
import type { Logger } from 'pino';
import { MAX_BODY_BYTES, MAX_WEBHOOK_BYTES } from '../domain/limits.ts';
import type { OrderEngine } from '../engine/order-engine.ts';
import type { PaymentProvider } from '../payments/provider.ts';
import type { Stores } from '../stores/open.ts';
import { authenticate, type RequestState } from './auth.ts';
import { createDemoRoutes, type DemoOptions } from './demo-routes.ts';
import type { EngineNotifier } from './engine-notifier.ts';
import { createHealthRoutes } from './health-routes.ts';
import { createOrderRoutes } from './order-routes.ts';
import { createOrderFinder } from './order-view.ts';
import { createPlaceOrder } from './place-order.ts';
import { problemResponder } from './problem.ts';
import { createGetSale } from './sale-routes.ts';
import { createReceiveNotice } from './webhook-routes.ts';

export interface AppDeps extends Stores {
  engine: OrderEngine;
  provider: PaymentProvider;
  notifier: EngineNotifier;
  jwtSecret: string;
  trustedProxyHops: number;
  /** Serves the demo page and gives tokens to anyone; absent in production. */
  demo: DemoOptions | undefined;
  isStopping: () => boolean;
  log: Logger;
}

export function createApp(deps: AppDeps): Koa {
  const findOrder = createOrderFinder(deps);
  const orders = createOrderRoutes({ ...deps, findOrder });
  const health = createHealthRoutes(deps);
  const json = bodyParser({ enableTypes: ['json'], jsonLimit: MAX_BODY_BYTES });
  const notice = bodyParser({ enableTypes: ['json'], jsonLimit: MAX_WEBHOOK_BYTES });
  const shopper = authenticate(deps.jwtSecret);

  const router = new Router<RequestState>()
    .get('/healthz', health.healthz)
    .get('/readyz', health.readyz)
    .get('/v1/sales/:saleId', createGetSale(deps.saleStock))
    .post('/v1/webhooks/payments', notice, createReceiveNotice(deps))
    .post('/v1/orders', shopper, json, createPlaceOrder({ ...deps, findOrder }))
    .get('/v1/orders/:orderNo', shopper, orders.getOrder)
    .post('/v1/orders/:orderNo/cancel', shopper, orders.cancelOrder)
    .post('/v1/orders/:orderNo/payment', shopper, orders.payOrder);
  if (deps.demo) {
    const demo = createDemoRoutes(deps.demo, deps.jwtSecret);
    router
      .get('/', demo.getPage)
      .get('/demo/page.css', demo.getStyle)
      .get('/demo/page.js', demo.getScript)
      .post('/demo/token', demo.postToken);
  }

  const app = new Koa({ proxy: deps.trustedProxyHops > 0, maxIpsCount: deps.trustedProxyHops });
  app.use(problemResponder(deps.log)).use(router.routes()).use(router.allowedMethods());
  return app;
}
