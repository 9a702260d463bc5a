/** The HTTP API: every route in one place. Testable without a port. */

import type { RequestListener } from 'node:http';
import { Router } from '@koa/router';
import Koa from 'koa';
import { SYSTEM_CLOCK, type Clock } from '../clock.ts';
import type { EngineNotifier, OrderEngine } from '../engine/order-engine.ts';
import type { EventTicker } from '../events/feed.ts';
import type { LaneName, Metrics } from '../metrics.ts';
import { createStoring } from '../orders/storing.ts';
import type { PaymentProvider } from '../providers/provider.ts';
import type { OrderSigner } from '../providers/signed-order.ts';
import type { UrlRules } from '../push/address.ts';
import { DEFAULT_WORK_KIB } from '../sales/sale.ts';
import type { StatusBoard } from '../status/board.ts';
import type { Stores } from '../stores/open.ts';
import type { ApiNotes } from './api-notes.ts';
import { mountAdmin, mountShop } from './calls/calls.ts';
import { createLostOrders, createProjection, createWorkflowQueries } from './calls/find-order.ts';
import type { Shop } from './calls/orders.ts';
import { createPollAdvice, type PollAdvice } from './calls/poll-advice.ts';
import { createPurchaseLimits } from './calls/purchase-limits.ts';
import { createSaleViews, type SaleViews } from './calls/sale-views.ts';
import type { TicketRules } from './calls/ticket.ts';
import type { Verification } from './calls/verification.ts';
import { createWaits } from './calls/wait.ts';
import { createReceiveNotice } from './calls/webhooks.ts';
import { createDemoRoutes, type DemoOptions } from './demo-routes.ts';
import { createHealthRoutes } from './health-routes.ts';
import { createAddressReader } from './http/address.ts';
import { authenticate, type RequestState, type TokenRules } from './http/auth.ts';
import { shareAcrossOrigins, createLane, type Lane } from './http/http-server.ts';
import { problemResponder, requestIdOf, type Answered } from './http/problem.ts';
import { createShedLog } from './http/refusal-logs.ts';
import { type BodyState, createBodyBudget } from './http/request.ts';
import { createNoticeInbox } from './notice-inbox.ts';
import { getProblemPage, PAGE_CACHE_CONTROL, protectPage, serveFile } from './page-routes.ts';
import { createRefusedPurchases, type RefusedPurchases } from './refused-purchases.ts';
import { createWatchers, type WatcherBounds } from './watchers.ts';

/**
 * Bytes of bodies that one API process keeps at once: of notices so many, of purchases, and of the back
 * office. 128 of the largest notices, where 64 are worked on; thousands of usual carts. Without it 15,000
 * connections could fill four gigabytes before anything of them is verified.
 */
export const MAX_BODIES_BYTES = 32 * 1024 * 1024;

/**
 * Purchases of a sale that wait for a place at work, if no other sale has buyers in the lane: a thirtieth of
 * a second at 8,000 a second, a quarter where an API gets so little of a machine that it takes 1,000. On a
 * busy machine more would wait in vain (docs/decisions.md). With two sales at most 288 wait, with ten 561,
 * with as many as a process knows 1,047.
 */
const MAX_PURCHASES_WAITING = 192;

/** Payment notices at once: three rounds of MYSQL_CONNECTIONS (20 unless set). Refused ones are repeated. */
export const MAX_NOTICES_IN_FLIGHT = 64;

/**
 * Shoppers who wait for a payment page at once. While the provider hangs each waits for five seconds, so
 * these calls have a lane of their own. At a third of a second each, this is far more than the provider's
 * pace.
 */
export const MAX_PAYMENTS_IN_FLIGHT = 64;

/** All other calls of shoppers at once. There are more, as they mostly wait for MySQL or a workflow. */
export const MAX_OTHERS_IN_FLIGHT = 256;

/**
 * Looks at once with which waits for a change begin and end. Thousands come within a moment, where a process
 * stopped or a page of orders changed. Each has its place as a watcher, so that none is refused here.
 */
export const MAX_LOOKS_IN_FLIGHT = 64;

/** Calls of the back office at once: a few people and the shop's own systems. No crowd takes their places. */
const MAX_STAFF_IN_FLIGHT = 64;

/**
 * Queries of Temporal at once, which callers cause. While no worker answers each takes two seconds, and they
 * are not a part of the engine's budget: so they are few.
 */
const MAX_QUERIES_IN_FLIGHT = 16;

/**
 * Answers to challenges that are checked at once: each takes one of the four threads that Node also signs and
 * reads files on.
 */
const MAX_VERIFICATIONS_IN_FLIGHT = 2;
/**
 * Answers that wait, of sales with the usual `costKib`. A check takes three milliseconds, so that the last is
 * answered within a second. A check at a higher `costKib` takes longer, and counts as many times as long.
 */
const MAX_VERIFICATIONS_WAITING = 512;

/**
 * Calls for events at once. Each consumer waits in one, so that more than there are consumers would be a
 * mistake; and they have a lane of their own, because they stay for so long.
 */
export const MAX_FEEDS_IN_FLIGHT = 64;

export interface AppDeps extends Stores {
  engine: OrderEngine;
  provider: PaymentProvider;
  signer: OrderSigner;
  notifier: EngineNotifier;
  eventTicker: EventTicker;
  metrics: Metrics;
  /** They are on the shoppers' port, as they have none of their own. */
  showsMetrics: boolean;
  /** Purchases at work at once. */
  purchasesAtOnce: number;
  /** How many purchases may wait for a place. Tests set fewer. */
  purchasesWaiting?: number;
  statusBoard: Pick<StatusBoard, 'all' | 'current'>;
  tokens: TokenRules;
  notes: Pick<ApiNotes, 'tokenJudged'>;
  tickets: TicketRules;
  verification: Verification;
  trustedProxyHops: number;
  /** Which addresses endpoints may have. */
  pushRules: UrlRules;
  /** Of storefronts that call from a browser. */
  corsOrigins: readonly string[];
  /** Serves the demo page and gives tokens to anyone; absent in production. */
  demo: DemoOptions | undefined;
  isStopping: () => boolean;
  watcherBounds: WatcherBounds;
  userPurchasesPerMinute: number;
  finalAnswerHeader: Shop['finalAnswerHeader'];
  /** The system's unless a test moves its own. */
  clock?: Clock;
  /** By the status board unless given. */
  pollAdvice?: PollAdvice;
}

export interface App {
  handle: RequestListener;
  /** Every method and path that is answered, such as `GET /v1/orders/:orderNo`. */
  routes: readonly string[];
  saleViews: SaleViews;
  refusedPurchases: Pick<RefusedPurchases, 'note' | 'run'>;
  /** After the last answer: ends what is stored for callers who have gone, and what notices have changed. */
  finish: () => Promise<void>;
  /** Ends the calls that wait for changes of orders, at once. */
  stopWatching: () => void;
}

const PURCHASE = 'POST /v1/orders';
/** Codes of purchases that were accepted first: they count as orders that ended. */
const ACCEPTED_FIRST: readonly (string | undefined)[] = ['order_failed', 'wait_timed_out'];
/** As metrics name them, by status. */
const PURCHASE_OUTCOMES: Readonly<Record<number, string>> = { 201: 'stored', 202: 'accepted' };

export function createApp({
  clock = SYSTEM_CLOCK,
  purchasesWaiting = MAX_PURCHASES_WAITING,
  ...given
}: AppDeps): App {
  const deps = { ...given, clock };
  const { metrics } = deps;
  const refusedPurchases = createRefusedPurchases(deps);
  const answered: Answered = (name, status, code, sinceMs, body) => {
    metrics.callAnswered(name, status, sinceMs);
    if (name !== PURCHASE) return;
    metrics.purchaseAnswered(code ?? PURCHASE_OUTCOMES[status] ?? 'repeated');
    if (code === undefined || ACCEPTED_FIRST.includes(code)) return;
    // A caller may have made up any other sale.
    if (saleViews.known(saleIdOf(body))) refusedPurchases.count(saleIdOf(body), code);
  };
  const projection = createProjection(deps);
  const health = createHealthRoutes(deps);
  const shopper = authenticate(deps.tokens, deps.notes.tokenJudged);
  const notices = openLane('notices', MAX_NOTICES_IN_FLIGHT, 0, deps);
  const payments = openLane('payments', MAX_PAYMENTS_IN_FLIGHT, 0, deps);
  const others = openLane('others', MAX_OTHERS_IN_FLIGHT, 0, deps);
  const staffCalls = openLane('staff', MAX_STAFF_IN_FLIGHT, 0, deps);
  const queries = openLane('queries', MAX_QUERIES_IN_FLIGHT, 0, deps);
  const feeds = openLane('feeds', MAX_FEEDS_IN_FLIGHT, 0, deps);
  const queryWorkflow = createWorkflowQueries(deps.engine, queries, deps.log);
  const lostOrders = createLostOrders({ ...deps, queryWorkflow });
  const saleViews = createSaleViews(deps, clock);
  const purchases = createLane({
    placesMax: deps.purchasesAtOnce,
    waitingMax: purchasesWaiting,
    // Sales that this process has not met share one group: a caller may have made them up.
    groupOf: ({ state }) => {
      const saleId = saleIdOf(state?.body);
      return saleViews.known(saleId) ? saleId : '';
    },
    onShed: countShed('purchases', deps),
    clock,
  });
  const verifications = createLane({
    placesMax: MAX_VERIFICATIONS_IN_FLIGHT,
    waitingMax: MAX_VERIFICATIONS_WAITING,
    weightOf({ params }) {
      const { verification } = saleViews.known(params?.['saleId'] ?? '') ?? {};
      return Math.max(1, (verification?.costKib ?? 0) / DEFAULT_WORK_KIB);
    },
    onShed: countShed('verifications', deps),
    clock,
  });
  const inbox = createNoticeInbox(deps, deps.provider.name, deps.notifier);
  const receiveNotice = createReceiveNotice({ ...deps, inbox });
  const tickets = { ...deps.tickets, ownKey: deps.verification.ticketKey };
  const pollAdvice = deps.pollAdvice ?? createPollAdvice(deps.statusBoard);
  const finder = { ...deps, projection, lostOrders, pollAdvice };
  const watchers = createWatchers(finder, { bounds: deps.watcherBounds, clock, metrics, log: deps.log });
  const shop = {
    ...finder,
    tickets,
    queryWorkflow,
    saleViews,
    purchaseLimits: createPurchaseLimits(deps.userPurchasesPerMinute, clock),
    receiveNotice,
    watchers,
    looks: openLane('looks', MAX_LOOKS_IN_FLIGHT, deps.watcherBounds.watchersMax, deps),
  };
  const bodies = () => createBodyBudget(MAX_BODIES_BYTES, countShed('bodies', deps));
  const storing = createStoring(deps, clock);
  const waits = createWaits(shop, storing);
  // Health checks and metrics have no lane: they are always answered.
  const router = new Router<RequestState & BodyState>({ sensitive: true, strict: true })
    .get('/healthz', health.healthz)
    .get('/readyz', health.readyz);
  const hot = mountShop(router, shop, {
    caller: shopper,
    bodies: { carts: bodies(), notices: bodies() },
    lanes: { purchases, notices, payments, others, verifications },
    waits,
    metrics,
  });
  const page = protectPage();
  router
    .get('/openapi.json', serveFile('openapi.json', 'public, max-age=60'))
    // The viewer writes its styles into the page.
    .get('/docs', protectPage({ styleSrc: ["'self'", "'unsafe-inline'"] }), serveFile('docs.html'))
    .get('/docs/page.js', page, serveFile('docs.js'))
    .get('/docs/viewer.js', page, serveFile('viewer.js', PAGE_CACHE_CONTROL))
    .get('/problems/page.css', page, serveFile('problem.css'))
    .get('/problems/:code', page, getProblemPage);
  if (deps.showsMetrics) router.get('/metrics', health.metrics);
  if (deps.demo) {
    const demo = createDemoRoutes(deps.demo);
    router
      .get('/', protectPage({ workerSrc: ["'self'"] }), demo.getPage)
      .get('/demo/page.css', page, demo.getStyle)
      .get('/demo/page.js', page, demo.getScript)
      .get('/demo/work.js', page, demo.getWork)
      .get('/demo/altcha.js', page, demo.getWidget)
      // A worker keeps to the policy of its own file, and this one makes WebAssembly.
      .get('/demo/scrypt.js', protectPage({ scriptSrc: ["'self'", "'wasm-unsafe-eval'"] }), demo.getSolver)
      .post('/demo/token', demo.postToken);
  }

  // A router tries all of its paths for each call, so shoppers' calls do not come to that of the back office.
  const staff = new Router<RequestState & BodyState>({ sensitive: true, strict: true });
  mountAdmin(
    staff,
    { ...deps, lostOrders, projection, pollAdvice },
    { caller: shopper, bodies: bodies(), lane: staffCalls, feeds },
  );

  const app = new Koa({ proxy: deps.trustedProxyHops > 0, maxIpsCount: deps.trustedProxyHops });
  app.use(problemResponder(deps.log, answered));
  if (app.proxy) {
    const readAddress = createAddressReader(deps.log);
    app.use(({ request }, next) => {
      request.ip = readAddress(request.ip);
      return next();
    });
  }
  app.use(hot).use(router.routes()).use(staff.routes()).use(staff.allowedMethods());
  const handle = app.callback();
  const routes = [...router.stack, ...staff.stack].flatMap(({ methods, path }) =>
    methods.map((method) => `${method} ${String(path)}`),
  );
  // Koa answers every error itself; its promise never rejects.
  const traced = traceCalls(deps, routes, (request, response) => void handle(request, response));
  return {
    handle: shareAcrossOrigins(deps.corsOrigins, traced),
    routes,
    saleViews,
    refusedPurchases,
    async finish() {
      await storing.stop();
      await inbox.drain();
    },
    stopWatching: watchers.stop,
  };
}

/** Gives a span to each call of the interface; health checks, scrapes and pages are none. */
function traceCalls(
  { tracing }: Pick<AppDeps, 'tracing'>,
  routes: readonly string[],
  handle: RequestListener,
): RequestListener {
  if (!tracing) return handle;
  const known = routes.map((route) => {
    const [method, path = ''] = route.split(' ');
    return { method, path, pattern: new RegExp(`^${path.replaceAll(/:\w+/g, '[^/]+')}$`) };
  });
  return (request, response) => {
    const asked = request.url?.split('?')[0] ?? '';
    if (asked.startsWith('/v1/')) {
      const route = known.find(({ method, pattern }) => method === request.method && pattern.test(asked));
      tracing.serve(request, response, route?.path, requestIdOf(request));
    }
    handle(request, response);
  };
}

/** As its caller sends it: nothing is validated yet. */
function saleIdOf(body: unknown): string {
  const isNamed = typeof body === 'object' && body !== null && 'saleId' in body;
  return isNamed && typeof body.saleId === 'string' ? body.saleId : '';
}

function openLane(
  name: LaneName,
  placesMax: number,
  waitingMax: number,
  deps: Pick<AppDeps, 'metrics' | 'log'> & { clock: Clock },
): Lane {
  return createLane({ placesMax, waitingMax, onShed: countShed(name, deps), clock: deps.clock });
}

function countShed(name: LaneName, { metrics, log }: Pick<AppDeps, 'metrics' | 'log'>): () => void {
  const [count, report] = [metrics.shedCounter(name), createShedLog(name, log)];
  return () => {
    count();
    report();
  };
}
