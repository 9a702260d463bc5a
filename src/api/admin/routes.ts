/** The back office's routes: what answers each call, behind the token, its scope, and the lane. */

import type { Router } from '@koa/router';
import type { Middleware } from 'koa';
import { MAX_BODY_BYTES, MAX_SALE_BODY_BYTES } from '../../domain/limits.ts';
import { type RequestState } from '../http/auth.ts';
import { allow } from '../http/auth.ts';
import { type BodyState } from '../http/http-server.ts';
import { type BodyBudget, jsonBody, optionalJsonBody } from '../http/json-body.ts';
import type { Lane } from '../http/load-shed.ts';
import { ADMIN_CALLS, type AdminCall, type AdminContext } from './calls.ts';
import {
  createDeliveryRoutes,
  type DeliveryDeps,
  createEndpointRoutes,
  type EndpointDeps,
} from './endpoints.ts';
import { createEventConsumerRoutes, createGetEvents, type EventsDeps } from './events.ts';
import { createStaffOrderRoutes, type StaffOrderRoutesDeps } from './orders.ts';
import { createMoneyBackRoutes, createRefundRoutes } from './refunds.ts';
import { createSaleRoutes, type SaleRoutesDeps } from './sales.ts';
import { createGetSettlement } from './settlement.ts';

export type AdminDeps = StaffOrderRoutesDeps & EventsDeps & EndpointDeps & DeliveryDeps & SaleRoutesDeps;

interface AdminRoute {
  /** Absent for calls without a body. */
  body?: Middleware<BodyState>;
  handle: (ctx: AdminContext) => Promise<void>;
  /** Where its callers stay for long; by default the lane of the back office. */
  lane?: Lane;
}

interface Guards {
  /** Finds out who calls. */
  caller: Middleware<RequestState>;
  /** What all bodies share. */
  bodies: BodyBudget;
  lane: Lane;
  /** For calls that wait for events. */
  feeds: Lane;
}

export function mountAdmin(router: Router<RequestState & BodyState>, deps: AdminDeps, guards: Guards): void {
  const moneyBack = createMoneyBackRoutes(deps);
  const [orders, refunds] = [createStaffOrderRoutes(deps), createRefundRoutes(deps)];
  const consumers = createEventConsumerRoutes(deps);
  const endpoints = createEndpointRoutes(deps);
  const deliveries = createDeliveryRoutes(deps);
  const [decision, json] = [
    optionalJsonBody(MAX_BODY_BYTES, guards.bodies),
    jsonBody(MAX_BODY_BYTES, guards.bodies),
  ];
  const sales = createSaleRoutes(deps);
  const routes: Record<AdminCall, AdminRoute> = {
    'GET /v1/admin/sales': { handle: sales.list },
    'GET /v1/admin/sales/:saleId': { handle: sales.show },
    'PUT /v1/admin/sales/:saleId': { body: jsonBody(MAX_SALE_BODY_BYTES, guards.bodies), handle: sales.put },
    'POST /v1/admin/sales/:saleId/pause': { body: decision, handle: sales.act('pause') },
    'POST /v1/admin/sales/:saleId/resume': { body: decision, handle: sales.act('resume') },
    'POST /v1/admin/sales/:saleId/close': { body: decision, handle: sales.act('close') },
    'POST /v1/admin/sales/:saleId/archive': { body: decision, handle: sales.archive },
    'GET /v1/admin/sales/:saleId/settlement': { handle: createGetSettlement(deps) },
    'GET /v1/admin/orders': { handle: orders.list },
    'GET /v1/admin/orders/:orderNo': { handle: orders.show },
    'POST /v1/admin/orders/:orderNo/cancel': { body: decision, handle: orders.cancel },
    'POST /v1/admin/orders/:orderNo/refunds': { body: decision, handle: refunds.request },
    'POST /v1/admin/orders/:orderNo/refunds/:refundId/withdraw': {
      body: decision,
      handle: refunds.withdraw,
    },
    'POST /v1/admin/payments/:paymentId/refund': { body: decision, handle: moneyBack.refundPayment },
    'POST /v1/admin/orders/:orderNo/return-stock': { body: decision, handle: moneyBack.returnStock },
    'GET /v1/admin/events': { handle: createGetEvents(deps), lane: guards.feeds },
    'GET /v1/admin/events/consumers': { handle: consumers.listConsumers },
    'GET /v1/admin/events/consumers/:name': { handle: consumers.getConsumer },
    'PUT /v1/admin/events/consumers/:name': { body: json, handle: consumers.putConsumer },
    'DELETE /v1/admin/events/consumers/:name': { handle: consumers.deleteConsumer },
    'GET /v1/admin/endpoints': { handle: endpoints.listEndpoints },
    'GET /v1/admin/endpoints/:name': { handle: endpoints.readEndpoint },
    'PUT /v1/admin/endpoints/:name': { body: json, handle: endpoints.putEndpoint },
    'DELETE /v1/admin/endpoints/:name': { handle: endpoints.removeEndpoint },
    'POST /v1/admin/endpoints/:name/rotate-secret': { handle: endpoints.rotateSecret },
    'POST /v1/admin/endpoints/:name/retire-secret': { handle: endpoints.retireSecret },
    'POST /v1/admin/endpoints/:name/enable': { handle: endpoints.enableEndpoint },
    'POST /v1/admin/endpoints/:name/disable': { handle: endpoints.disableEndpoint },
    'POST /v1/admin/endpoints/:name/test': { handle: endpoints.testEndpoint },
    'POST /v1/admin/endpoints/:name/replay': { body: json, handle: deliveries.replayEvents },
    'GET /v1/admin/endpoints/:name/deliveries': { handle: deliveries.listDeliveries },
  };
  for (const call of adminCalls()) mount(router, call, routes[call], guards);
}

/** No body is read for a caller who may not, and a slow sender occupies no room in the lane. */
function mount(
  router: Router<RequestState & BodyState>,
  call: AdminCall,
  { body, handle, ...route }: AdminRoute,
  { caller, lane }: Guards,
): void {
  const [method = '', path = ''] = call.split(' ');
  const guards = [caller, allow(ADMIN_CALLS[call]), ...(body ? [body] : []), (route.lane ?? lane).enter];
  router.register(path, [method], [...guards, handle]);
}

function adminCalls(): AdminCall[] {
  return Object.keys(ADMIN_CALLS).filter((call): call is AdminCall => Object.hasOwn(ADMIN_CALLS, call));
}
