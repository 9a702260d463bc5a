/**
 * Every call of the API, and how each is mounted: behind its token, its scope, its body and its lane.
 * test/api/scopes.test.ts tries each call of the back office with each scope and role.
 */

import type { Router } from '@koa/router';
import type { Middleware, Next } from 'koa';
import type { Metrics } from '../../metrics.ts';
import { allow, type RequestState } from '../http/auth.ts';
import { type BodyRule, type CallContext, partsOf, type ShopCalls, type ShopLane } from '../http/entry.ts';
import type { Lane } from '../http/http-server.ts';
import { requestIdOf } from '../http/problem.ts';
import {
  type BodyBudget,
  type BodyState,
  jsonBody,
  MAX_BODY_BYTES,
  optionalJsonBody,
  textBody,
} from '../http/request.ts';
import { auditLogCalls } from './audit-log.ts';
import { callOffCalls } from './call-off.ts';
import type { AdminCalls, BackOffice } from './call.ts';
import { endpointCalls } from './endpoints.ts';
import { eventCalls } from './events.ts';
import { figuresCalls } from './figures.ts';
import { listCalls } from './my-orders.ts';
import { storyCalls } from './order-story.ts';
import { shopperCalls } from './orders.ts';
import { parkedCalls } from './parked.ts';
import { refundCalls } from './refunds.ts';
import { saleViewCalls } from './sale-views.ts';
import { saleCalls } from './sales.ts';
import { settlementCalls } from './settlement.ts';
import { orderCalls } from './staff-orders.ts';
import { statusCalls } from './status.ts';
import { upkeepCalls } from './upkeep.ts';
import { verificationCalls, type Verifier } from './verification.ts';
import type { Waits } from './wait.ts';
import { watchCalls, type WatchShop } from './watch-order.ts';
import { countNotices, noticeCalls, type Receiver } from './webhooks.ts';

export const SHOP_CALLS: ShopCalls<WatchShop & Receiver & Verifier> = {
  ...shopperCalls,
  ...watchCalls,
  ...listCalls,
  ...saleViewCalls,
  ...verificationCalls,
  ...noticeCalls,
};

export const ADMIN_CALLS: AdminCalls = {
  ...saleCalls,
  ...callOffCalls,
  ...figuresCalls,
  ...settlementCalls,
  ...orderCalls,
  ...storyCalls,
  ...refundCalls,
  ...eventCalls,
  ...endpointCalls,
  ...statusCalls,
  ...parkedCalls,
  ...auditLogCalls,
  ...upkeepCalls,
};

interface ShopGuards {
  /** Finds out who calls. */
  caller: Middleware<RequestState>;
  /** What the bodies of purchases share, and those of notices. */
  bodies: { carts: BodyBudget; notices: BodyBudget };
  lanes: Record<Exclude<ShopLane, 'watches'>, Lane>;
  waits: Waits;
  metrics: Pick<Metrics, 'noticeAnswered'>;
}

/**
 * A lane comes after the body and the token: neither a slow sender nor one who waits for the key of a token
 * occupies room in it. A purchase that waits does so around all of that, and occupies none of it. No token is
 * verified for a purchase whose sale has no room in the lane.
 * @returns answers the hot calls; it comes before the router, which would try each of its paths
 */
export function mountShop(
  router: Router<RequestState & BodyState>,
  shop: WatchShop & Receiver & Verifier,
  { caller, bodies, lanes, waits, metrics }: ShopGuards,
): Middleware<RequestState & BodyState> {
  const hot: HotCall[] = [];
  for (const [call, { who, lane, isHot, body, watch, handle }] of Object.entries(SHOP_CALLS)) {
    const { method, path } = partsOf(call);
    const counted = who === 'provider' ? [countNotices(metrics)] : [];
    const waiting = lane === 'purchases' ? [waits.around] : [];
    const reader = body ? [bodyReader(body, body.isSigned ? bodies.notices : bodies.carts)] : [];
    const roomy = lane === 'purchases' ? [lanes.purchases.requireRoom] : [];
    const known = who === 'shopper' ? [caller] : [];
    const answer = (ctx: CallContext) => handle(shop, ctx);
    const watching = watch ? [(ctx: CallContext, next: Next) => watch(shop, ctx, next)] : [];
    const inLane = lane === 'watches' ? [] : [lanes[lane].enter];
    const steps = [...counted, ...waiting, ...reader, ...roomy, ...known, ...watching, ...inLane, answer];
    router.register(path, [method], steps);
    if (isHot) hot.push({ method, path, pattern: patternOf(path), answer: inTurn(steps) });
  }
  return (ctx, next) => {
    for (const { method, path, pattern, answer } of hot) {
      const found = ctx.method === method ? pattern.exec(ctx.url) : null;
      if (!found) continue;
      return answer(Object.assign(ctx, { params: found.groups ?? {}, _matchedRoute: path }));
    }
    return next();
  };
}

interface HotCall {
  method: string;
  /** As the router names it. */
  path: string;
  /** Of a URL without a query. */
  pattern: RegExp;
  answer: (ctx: CallContext) => Promise<unknown>;
}

function patternOf(path: string): RegExp {
  return new RegExp(`^${path.replaceAll(/:(\w+)/g, String.raw`(?<$1>[\w-]+)`)}$`);
}

type Step = (ctx: CallContext, next: Next) => Promise<unknown>;

function inTurn(steps: readonly Step[]): HotCall['answer'] {
  return steps.reduceRight<HotCall['answer']>(
    (rest, step) => (ctx) => step(ctx, () => rest(ctx)),
    () => Promise.resolve(),
  );
}

function bodyReader({ bytesMax = MAX_BODY_BYTES, isSigned, isOptional }: BodyRule, budget: BodyBudget) {
  if (isSigned) return textBody(bytesMax, budget);
  return isOptional ? optionalJsonBody(bytesMax, budget) : jsonBody(bytesMax, budget);
}

interface Guards {
  /** Finds out who calls. */
  caller: Middleware<RequestState>;
  /** What all bodies share. */
  bodies: BodyBudget;
  lane: Lane;
  feeds: Lane;
}

/** No body is read for a caller who may not, and a slow sender occupies no room in the lane. */
export function mountAdmin(
  router: Router<RequestState & BodyState>,
  office: BackOffice,
  { caller, bodies, lane, feeds }: Guards,
): void {
  for (const [call, { scope, body, handle, ...own }] of Object.entries(ADMIN_CALLS)) {
    const { method, path } = partsOf(call);
    const reader = body ? [bodyReader(body, bodies)] : [];
    const { enter } = own.lane === 'feeds' ? feeds : lane;
    // Its lines are many and its calls few, so each call has a log of its own.
    const answer = (ctx: CallContext) =>
      handle({ ...office, log: office.log.child({ requestId: requestIdOf(ctx.req) }) }, ctx);
    router.register(path, [method], [caller, allow(scope), ...reader, enter, answer]);
  }
}
