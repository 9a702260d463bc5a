/**
 * What the API may answer: every reply that a test gets is held to the schemas that the handlers are typed
 * by.
 */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { ADMIN_CALLS } from '../../src/api/calls/calls.ts';
import { ordersReply, sourcedOrderReply } from '../../src/api/calls/find-order.ts';
import { sessionReply } from '../../src/api/calls/orders.ts';
import { saleReply } from '../../src/api/calls/sale-views.ts';
import { tokenReply } from '../../src/api/demo-routes.ts';
import { healthReply, readyReply } from '../../src/api/health-routes.ts';
import { PROBLEM_STATUS, type ProblemCode, problemReply } from '../../src/api/http/problem.ts';
import { noBody, orderReply } from '../../src/api/http/replies.ts';

export interface Reply {
  status: number;
  headers: Headers;
  body: unknown;
}

/** The replies of a route that are no problem documents, by status. */
interface Route {
  method: string;
  path: RegExp;
  replies: Readonly<Record<number, z.ZodType>>;
}

const text = z.string().min(1);

const ROUTES: Route[] = [
  { method: 'GET', path: /^\/healthz$/, replies: { 200: healthReply } },
  { method: 'GET', path: /^\/readyz$/, replies: { 200: readyReply, 503: readyReply } },
  { method: 'GET', path: /^\/metrics$/, replies: { 200: text } },
  { method: 'GET', path: /^\/v1\/sales\/[^/]+$/, replies: { 200: saleReply, 304: noBody } },
  { method: 'POST', path: /^\/v1\/webhooks\/payments$/, replies: { 204: noBody } },
  { method: 'POST', path: /^\/v1\/orders$/, replies: { 200: orderReply, 202: orderReply } },
  { method: 'GET', path: /^\/v1\/orders(\?.*)?$/, replies: { 200: ordersReply } },
  {
    method: 'GET',
    path: /^\/v1\/orders\/[^/?]+\?source=workflow$/,
    replies: { 200: sourcedOrderReply, 304: noBody },
  },
  { method: 'GET', path: /^\/v1\/orders\/[^/?]+$/, replies: { 200: orderReply, 304: noBody } },
  {
    method: 'POST',
    path: /^\/v1\/orders\/[^/]+\/cancel$/,
    replies: { 200: orderReply, 202: orderReply },
  },
  { method: 'POST', path: /^\/v1\/orders\/[^/]+\/payment$/, replies: { 201: sessionReply } },
  { method: 'GET', path: /^\/(demo\/page\.(css|js))?$/, replies: { 200: text } },
  { method: 'POST', path: /^\/demo\/token$/, replies: { 200: tokenReply } },
  ...Object.entries(ADMIN_CALLS).map(([call, { replies }]): Route => {
    const [method = '', path = ''] = call.split(' ');
    return { method, path: new RegExp(`^${path.replaceAll(/:\w+/g, '[^/]+')}$`), replies };
  }),
];

export const PROBLEM_CODES = Object.keys(PROBLEM_STATUS).filter(isPublished);

/** The sandbox provider's, to which tests send as well. */
const PROVIDER_PATH = /^\/v1\/(test|payment_sessions)\//;

/** What must never reach a caller: names of parts, addresses, statements, stack traces. */
const INTERNAL = /redis|mysql|mariadb|temporal|econn|127\.0\.0\.1|select |insert |\.ts\b|zod|koa|stack/i;

/**
 * What is promised for a call, by status; problems apart.
 * @param target a path with its query
 */
export function findReplies(method: string, target: string): Route['replies'] | undefined {
  const [pathname = ''] = target.split('?');
  const candidates = ROUTES.filter((route) => route.method === method);
  return candidates.find(({ path }) => path.test(target) || path.test(pathname))?.replies;
}

/** @throws when the API has not promised this answer to this call */
export function checkReply(method: string, url: string, reply: Reply): void {
  const { pathname, search } = new URL(url);
  if (PROVIDER_PATH.test(pathname)) return;
  const schema = findReplies(method, pathname + search)?.[reply.status];
  if (!schema && reply.status >= 400) {
    parseProblem(reply);
    return;
  }
  const call = `${method} ${pathname}${search}: ${reply.status} ${JSON.stringify(reply.body)}`;
  assert(schema, `no such answer is promised: ${call}`);
  const parsed = schema.safeParse(reply.body);
  assert(parsed.success, `not the promised shape: ${call}\n${parsed.error?.message}`);
}

/**
 * The problem document, strictly: a published code, its status, its members and no other, nothing internal.
 */
export function parseProblem({ status, headers, body }: Reply) {
  const seen = JSON.stringify(body);
  assert.match(headers.get('content-type') ?? '', /^application\/problem\+json/, seen);
  const { code } = z.object({ code: z.string() }).parse(body);
  assert(isPublished(code), `a code that is not published: ${seen}`);
  problemReply(code).parse(body);
  assert.equal(PROBLEM_STATUS[code], status, seen);
  assert.doesNotMatch(seen, INTERNAL);
  // Tests read the further members of a code by name.
  return namedMembers.parse(body);
}

const namedMembers = z.looseObject({ code: z.string(), detail: z.string() });

function isPublished(code: string): code is ProblemCode {
  return Object.hasOwn(PROBLEM_STATUS, code);
}
