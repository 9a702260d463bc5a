/**
 * Every call of the back office, with the scope that it needs. `routes.ts` mounts these and no other;
 * test/api/scopes.test.ts tries each of them with each scope and role.
 */

import type { Context } from 'koa';
import { type RequestState } from '../http/auth.ts';
import { type BodyState } from '../http/http-server.ts';
import type { Scope } from '../http/scopes.ts';

/** What each handler gets. */
export type AdminContext = Context & { state: RequestState & BodyState; params: Record<string, string> };

type Method = 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE';

export const ADMIN_CALLS = {
  'GET /v1/admin/sales': 'sales:read',
  'GET /v1/admin/sales/:saleId': 'sales:read',
  'PUT /v1/admin/sales/:saleId': 'sales:write',
  'POST /v1/admin/sales/:saleId/pause': 'sales:write',
  'POST /v1/admin/sales/:saleId/resume': 'sales:write',
  'POST /v1/admin/sales/:saleId/close': 'sales:write',
  'POST /v1/admin/sales/:saleId/archive': 'sales:write',
  'GET /v1/admin/sales/:saleId/settlement': 'settlement:read',
  'GET /v1/admin/orders': 'orders:read',
  'GET /v1/admin/orders/:orderNo': 'orders:read',
  'POST /v1/admin/orders/:orderNo/cancel': 'orders:write',
  'POST /v1/admin/orders/:orderNo/refunds': 'refunds:write',
  'POST /v1/admin/orders/:orderNo/refunds/:refundId/withdraw': 'refunds:write',
  'POST /v1/admin/payments/:paymentId/refund': 'refunds:write',
  'POST /v1/admin/orders/:orderNo/return-stock': 'refunds:write',
  'GET /v1/admin/events': 'events:read',
  'GET /v1/admin/events/consumers': 'events:read',
  'GET /v1/admin/events/consumers/:name': 'events:read',
  'PUT /v1/admin/events/consumers/:name': 'events:write',
  'DELETE /v1/admin/events/consumers/:name': 'events:write',
  'GET /v1/admin/endpoints': 'events:read',
  'GET /v1/admin/endpoints/:name': 'events:read',
  'PUT /v1/admin/endpoints/:name': 'endpoints:write',
  'DELETE /v1/admin/endpoints/:name': 'endpoints:write',
  'POST /v1/admin/endpoints/:name/rotate-secret': 'endpoints:write',
  'POST /v1/admin/endpoints/:name/retire-secret': 'endpoints:write',
  'POST /v1/admin/endpoints/:name/enable': 'endpoints:write',
  'POST /v1/admin/endpoints/:name/disable': 'endpoints:write',
  'POST /v1/admin/endpoints/:name/test': 'endpoints:write',
  'POST /v1/admin/endpoints/:name/replay': 'endpoints:write',
  'GET /v1/admin/endpoints/:name/deliveries': 'events:read',
} as const satisfies Record<`${Method} /v1/admin/${string}`, Scope>;
export type AdminCall = keyof typeof ADMIN_CALLS;
