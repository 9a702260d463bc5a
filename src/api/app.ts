/** The HTTP API: every route in one place. Testable without a port. */

import type { RequestListener } from 'node:http';
import { Router } from '@koa/router';
import Koa from 'koa';
import {
  MAX_BODIES_BYTES,
  MAX_BODY_BYTES,
  MAX_FEEDS_IN_FLIGHT,
  MAX_NOTICES_IN_FLIGHT,
  MAX_OTHERS_IN_FLIGHT,
  MAX_PAYMENTS_IN_FLIGHT,
  MAX_PURCHASES_AT_WORK,
  MAX_PURCHASES_WAITING,
  MAX_QUERIES_IN_FLIGHT,
  MAX_STAFF_IN_FLIGHT,
  MAX_WEBHOOK_BYTES,
} from '../domain/limits.ts';
import type { OrderEngine } from '../engine/order-engine.ts';
import { createEventFeed, type EventTicker } from '../events/event-feed.ts';
import type { LaneName, Metrics } from '../metrics.ts';
import type { PaymentProvider } from '../payments/provider.ts';
import type { OrderSigner } from '../payments/signed-order.ts';
import type { UrlRules } from '../push/address.ts';
import type { Stores } from '../stores/open.ts';
import { mountAdmin } from './admin/routes.ts';
import { createDemoRoutes, type DemoOptions } from './demo-routes.ts';
import { createHealthRoutes } from './health-routes.ts';
import { authenticate, type RequestState, type TokenRules } from './http/auth.ts';
import { shareAcrossOrigins } from './http/cross-origin.ts';
import { answerDirectly } from './http/http-server.ts';
import { type BodyState } from './http/http-server.ts';
import { createBodyBudget, jsonBody, textBody } from './http/json-body.ts';
import { createLane, shedPurchases, type Lane } from './http/load-shed.ts';
import { problemResponder } from './http/problem.ts';
import { createShedLog, createTokenLog } from './http/refusal-logs.ts';
import type { EngineNotifier } from './orders/engine-notifier.ts';
import { createLostOrders } from './orders/lost-orders.ts';
import { createWorkflowQueries } from './orders/lost-orders.ts';
import { createOrderRoutes } from './orders/order-routes.ts';
import { createListOrders, createOrderFinder } from './orders/order-view.ts';
import { createPaymentPage } from './orders/payment-page.ts';
import { createPlaceOrder } from './orders/place-order.ts';
import { createProjection } from './orders/projection.ts';
import type { VerifyTicket } from './orders/ticket.ts';
import { createAbsentSales, createGetSale } from './sale-routes.ts';
import { countNotices, createReceiveNotice } from './webhook-routes.ts';

export interface AppDeps extends Stores {
  engine: OrderEngine;
  provider: PaymentProvider;
  signer: OrderSigner;
  notifier: EngineNotifier;
  eventTicker: EventTicker;
  metrics: Metrics;
  tokens: TokenRules;
  verifyTicket: VerifyTicket;
  trustedProxyHops: number;
  /** Which addresses endpoints may have. */
  pushRules: UrlRules;
  /** Of storefronts that call from a browser. */
  corsOrigins: readonly string[];
  /** Serves the demo page and gives tokens to anyone; absent in production. */
  demo: DemoOptions | undefined;
  isStopping: () => boolean;
}

export interface App {
  handle: RequestListener;
  /** Every method and path that is answered, such as `GET /v1/orders/:orderNo`. */
  routes: readonly string[];
}

export function createApp(deps: AppDeps): App {
  const projection = createProjection(deps);
  const findAbsentSale = createAbsentSales(deps.sales);
  const openPaymentPage = createPaymentPage({ ...deps, sign: deps.signer.sign, projection });
  const health = createHealthRoutes(deps);
  const shopper = authenticate(deps.tokens, createTokenLog(deps.log));
  const purchases = openLane('purchases', MAX_PURCHASES_AT_WORK, MAX_PURCHASES_WAITING, deps);
  const notices = openLane('notices', MAX_NOTICES_IN_FLIGHT, 0, deps);
  const payments = openLane('payments', MAX_PAYMENTS_IN_FLIGHT, 0, deps);
  const others = openLane('others', MAX_OTHERS_IN_FLIGHT, 0, deps);
  const staffCalls = openLane('staff', MAX_STAFF_IN_FLIGHT, 0, deps);
  const queries = openLane('queries', MAX_QUERIES_IN_FLIGHT, 0, deps);
  const feeds = openLane('feeds', MAX_FEEDS_IN_FLIGHT, 0, deps);
  const queryWorkflow = createWorkflowQueries(deps.engine, queries, deps.log);
  const lostOrders = createLostOrders({ ...deps, queryWorkflow });
  const findOrder = createOrderFinder({ ...deps, projection, lostOrders });
  const orders = createOrderRoutes({ ...deps, projection, queryWorkflow, findOrder, openPaymentPage });
  const eventFeed = createEventFeed(deps);
  const bodies = () => createBodyBudget(MAX_BODIES_BYTES, countShed('bodies', deps));
  const [cart, notice] = [jsonBody(MAX_BODY_BYTES, bodies()), textBody(MAX_WEBHOOK_BYTES, bodies())];

  // A lane comes after the body and the token: neither a slow sender nor one who waits for the key of a token
  // occupies room in it. Health checks and metrics have none: they are always answered.
  const placeOrder = createPlaceOrder({ ...deps, findAbsentSale, findOrder });
  const purchase = [cart, shopper, purchases.enter, placeOrder] as const;
  const poll = [shopper, others.enter, orders.getOrder] as const;
  const router = new Router<RequestState & BodyState>({ sensitive: true, strict: true })
    .get('/healthz', health.healthz)
    .get('/readyz', health.readyz)
    .get('/metrics', health.metrics)
    .get('/v1/sales/:saleId', others.enter, createGetSale({ ...deps, findAbsentSale }))
    .post(
      '/v1/webhooks/payments',
      countNotices(deps.metrics),
      notice,
      notices.enter,
      createReceiveNotice(deps),
    )
    .post('/v1/orders', ...purchase)
    .get('/v1/orders', shopper, others.enter, createListOrders({ ...deps, projection }))
    .get('/v1/orders/:orderNo', ...poll)
    .post('/v1/orders/:orderNo/cancel', shopper, others.enter, orders.cancelOrder)
    .post('/v1/orders/:orderNo/payment', shopper, payments.enter, orders.payOrder);
  if (deps.demo) {
    const demo = createDemoRoutes(deps.demo);
    router
      .get('/', demo.getPage)
      .get('/demo/page.css', demo.getStyle)
      .get('/demo/page.js', demo.getScript)
      .post('/demo/token', demo.postToken);
  }

  // A router tries all of its paths for each call, so shoppers' calls do not come to that of the back office.
  const staff = new Router<RequestState & BodyState>({ sensitive: true, strict: true });
  mountAdmin(
    staff,
    { ...deps, eventFeed, lostOrders },
    { caller: shopper, bodies: bodies(), lane: staffCalls, feeds },
  );

  const app = new Koa({ proxy: deps.trustedProxyHops > 0, maxIpsCount: deps.trustedProxyHops });
  app.use(problemResponder(deps.log)).use(router.routes()).use(staff.routes()).use(staff.allowedMethods());
  const handle = app.callback();
  const direct = answerDirectly({
    routes: [
      { method: 'POST', path: /^\/v1\/orders$/, steps: purchase },
      { method: 'GET', path: /^\/v1\/orders\/(?<orderNo>[\w-]+)$/, steps: poll },
    ],
    addressOf: (request, response) =>
      app.proxy ? app.createContext(request, response).ip : (request.socket.remoteAddress ?? ''),
    log: deps.log,
    // Koa answers every error itself; its promise never rejects.
    otherwise: (request, response) => void handle(request, response),
  });
  return {
    handle: shareAcrossOrigins(deps.corsOrigins, shedPurchases(purchases, direct)),
    routes: [...router.stack, ...staff.stack].flatMap(({ methods, path }) =>
      methods.map((method) => `${method} ${String(path)}`),
    ),
  };
}

function openLane(
  name: LaneName,
  placesMax: number,
  waitingMax: number,
  deps: Pick<AppDeps, 'metrics' | 'log'>,
): Lane {
  return createLane({ placesMax, waitingMax, onShed: countShed(name, deps) });
}

function countShed(name: LaneName, { metrics, log }: Pick<AppDeps, 'metrics' | 'log'>): () => void {
  const [count, report] = [metrics.shedCounter(name), createShedLog(name, log)];
  return () => {
    count();
    report();
  };
}
