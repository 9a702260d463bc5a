/** The back office's routes: what answers each call, behind the token, its scope, and the lane. */

import type { Router } from '@koa/router';
import type { Context, Middleware } from 'koa';
import { MAX_BODY_BYTES } from '../../domain/limits.ts';
import type { RequestState } from '../http/auth.ts';
import { optionalJsonBody, type BodyState } from '../http/json-body.ts';
import type { Lane } from '../http/load-shed.ts';
import { allow } from '../http/scopes.ts';
import { ADMIN_CALLS, type AdminCall } from './calls.ts';
import { createMoneyBackRoutes, type MoneyBackDeps } from './money-back.ts';

export type AdminDeps = MoneyBackDeps;

/** What each handler gets. */
export type AdminContext = Context & { state: RequestState & BodyState; params: Record<string, string> };

interface AdminRoute {
  /** Absent for calls without a body. */
  body?: Middleware<BodyState>;
  handle: (ctx: AdminContext) => Promise<void>;
}

interface Guards {
  /** Finds out who calls. */
  caller: Middleware<RequestState>;
  lane: Lane;
}

export function mountAdmin(router: Router<RequestState & BodyState>, deps: AdminDeps, guards: Guards): void {
  const moneyBack = createMoneyBackRoutes(deps);
  const decision = optionalJsonBody(MAX_BODY_BYTES);
  const routes: Record<AdminCall, AdminRoute> = {
    'POST /v1/admin/payments/:paymentId/refund': { body: decision, handle: moneyBack.refundPayment },
    'POST /v1/admin/orders/:orderNo/return-stock': { body: decision, handle: moneyBack.returnStock },
  };
  for (const call of adminCalls()) mount(router, call, routes[call], guards);
}

/** No body is read for a caller who may not, and a slow sender occupies no room in the lane. */
function mount(
  router: Router<RequestState & BodyState>,
  call: AdminCall,
  { body, handle }: AdminRoute,
  { caller, lane }: Guards,
): void {
  const [method = '', path = ''] = call.split(' ');
  const guards = [caller, allow(ADMIN_CALLS[call]), ...(body ? [body] : []), lane.enter];
  router.register(path, [method], [...guards, handle]);
}

function adminCalls(): AdminCall[] {
  return Object.keys(ADMIN_CALLS).filter((call): call is AdminCall => Object.hasOwn(ADMIN_CALLS, call));
}
