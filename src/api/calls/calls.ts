/**
 * Every call of the API, and how each is mounted: behind its token, its scope, its body and its lane. A
 * purchase and a poll are answered in front of the router as well (src/api/app.ts), by the same steps.
 * test/api/scopes.test.ts tries each call of the back office with each scope and role.
 */

import type { Router } from '@koa/router';
import type { Middleware, Next } from 'koa';
import type { Metrics } from '../../metrics.ts';
import { allow, type RequestState } from '../http/auth.ts';
import { type BodyRule, type CallContext, partsOf, type ShopCalls, type ShopLane } from '../http/entry.ts';
import type { BodyState, Lane } from '../http/http-server.ts';
import { requestIdOf } from '../http/problem.ts';
import { MAX_BODY_BYTES } from '../http/request.ts';
import { type BodyBudget, jsonBody, optionalJsonBody, textBody } from '../http/request.ts';
import { callOffCalls } from './call-off.ts';
import type { AdminCalls, AdminContext, BackOffice } from './call.ts';
import { endpointCalls } from './endpoints.ts';
import { eventCalls } from './events.ts';
import { listCalls } from './my-orders.ts';
import { shopperCalls } from './orders.ts';
import { refundCalls } from './refunds.ts';
import { saleViewCalls } from './sale-views.ts';
import { saleCalls } from './sales.ts';
import { settlementCalls } from './settlement.ts';
import { orderCalls } from './staff-orders.ts';
import { statusCalls } from './status.ts';
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
  ...settlementCalls,
  ...orderCalls,
  ...refundCalls,
  ...eventCalls,
  ...endpointCalls,
  ...statusCalls,
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
 */
export function mountShop(
  router: Router<RequestState & BodyState>,
  shop: WatchShop & Receiver & Verifier,
  { caller, bodies, lanes, waits, metrics }: ShopGuards,
): void {
  for (const [call, { who, lane, body, watch, handle }] of Object.entries(SHOP_CALLS)) {
    const { method, path } = partsOf(call);
    const counted = who === 'provider' ? [countNotices(metrics)] : [];
    const waiting = lane === 'purchases' ? [waits.around] : [];
    const reader = body ? [bodyReader(body, body.isSigned ? bodies.notices : bodies.carts)] : [];
    const roomy = lane === 'purchases' ? [lanes.purchases.requireRoom] : [];
    const known = who === 'shopper' ? [caller] : [];
    const answer = (ctx: CallContext) => handle(shop, ctx);
    const watching = watch ? [(ctx: CallContext, next: Next) => watch(shop, ctx, next)] : [];
    const inLane = lane === 'watches' ? [] : [lanes[lane].enter];
    const before = [...counted, ...waiting, ...reader, ...roomy, ...known, ...watching, ...inLane];
    router.register(path, [method], [...before, answer]);
  }
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
    const answer = (ctx: AdminContext) =>
      handle({ ...office, log: office.log.child({ requestId: requestIdOf(ctx.req) }) }, ctx);
    router.register(path, [method], [caller, allow(scope), ...reader, enter, answer]);
  }
}
