/**
 * Every call of the back office, and how each is mounted: behind the token, its scope, and the lane.
 * test/api/scopes.test.ts tries each of them with each scope and role.
 */

import type { Router } from '@koa/router';
import type { Middleware } from 'koa';
import { allow, type RequestState } from '../http/auth.ts';
import type { BodyState, Lane } from '../http/http-server.ts';
import { requestIdOf } from '../http/problem.ts';
import { MAX_BODY_BYTES } from '../http/request.ts';
import { type BodyBudget, jsonBody, optionalJsonBody } from '../http/request.ts';
import type { AdminCalls, AdminContext, BackOffice } from './call.ts';
import { endpointCalls } from './endpoints.ts';
import { eventCalls } from './events.ts';
import { refundCalls } from './refunds.ts';
import { saleCalls } from './sales.ts';
import { settlementCalls } from './settlement.ts';
import { orderCalls } from './staff-orders.ts';
import { statusCalls } from './status.ts';

/**
 * Bytes of a sale as the shop sends it: 200 SKUs, each with a name of 200 characters, a reference and full
 * metadata, are 450 KiB.
 */
export const MAX_SALE_BODY_BYTES = 512 * 1024;

export const ADMIN_CALLS: AdminCalls = {
  ...saleCalls,
  ...settlementCalls,
  ...orderCalls,
  ...refundCalls,
  ...eventCalls,
  ...endpointCalls,
  ...statusCalls,
};

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
  const readers = {
    json: jsonBody(MAX_BODY_BYTES, bodies),
    decision: optionalJsonBody(MAX_BODY_BYTES, bodies),
    sale: jsonBody(MAX_SALE_BODY_BYTES, bodies),
  };
  for (const [call, { scope, body, handle, ...own }] of Object.entries(ADMIN_CALLS)) {
    const [method = '', path = ''] = call.split(' ');
    const reader = body ? [readers[body]] : [];
    const { enter } = own.lane === 'feeds' ? feeds : lane;
    // Its lines are many and its calls few, so each call has a log of its own.
    const answer = (ctx: AdminContext) =>
      handle({ ...office, log: office.log.child({ requestId: requestIdOf(ctx.req) }) }, ctx);
    router.register(path, [method], [caller, allow(scope), ...reader, enter, answer]);
  }
}
