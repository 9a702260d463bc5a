/**
 * What the API may answer: every reply that a test gets is held to the schemas that the handlers are typed
 * by.
 */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { PROBLEM_STATUS, type ProblemCode } from '../../src/api/http/problem-codes.ts';
import {
  createdEndpointReply,
  deliveriesReply,
  endpointListReply,
  endpointReply,
  replayReply,
  testReply,
  consumerReply,
  consumersReply,
  eventsReply,
  healthReply,
  orderReply,
  ordersReply,
  problemReply,
  readyReply,
  refundReply,
  returnStockReply,
  saleReply,
  sessionReply,
  sourcedOrderReply,
  tokenReply,
  salesReply,
  shopSaleReply,
  orderFileReply,
  orderRefundReply,
  settlementReply,
  staffOrderReply,
  staffOrdersReply,
} from '../../src/api/http/replies.ts';

export interface Reply {
  status: number;
  headers: Headers;
  body: unknown;
}

/** The replies of a route that are no problem documents, by status. */
interface Route {
  method: string;
  path: RegExp;
  replies: { [status: number]: z.ZodType };
}

const empty = z.literal('');
const text = z.string().min(1);

const ROUTES: Route[] = [
  { method: 'GET', path: /^\/healthz$/, replies: { 200: healthReply } },
  { method: 'GET', path: /^\/readyz$/, replies: { 200: readyReply, 503: readyReply } },
  { method: 'GET', path: /^\/metrics$/, replies: { 200: text } },
  { method: 'GET', path: /^\/v1\/sales\/[^/]+$/, replies: { 200: saleReply, 304: empty } },
  { method: 'POST', path: /^\/v1\/webhooks\/payments$/, replies: { 204: empty } },
  { method: 'POST', path: /^\/v1\/orders$/, replies: { 200: orderReply, 202: orderReply } },
  { method: 'GET', path: /^\/v1\/orders(\?.*)?$/, replies: { 200: ordersReply } },
  {
    method: 'GET',
    path: /^\/v1\/orders\/[^/?]+\?source=workflow$/,
    replies: { 200: sourcedOrderReply, 304: empty },
  },
  { method: 'GET', path: /^\/v1\/orders\/[^/?]+$/, replies: { 200: orderReply, 304: empty } },
  {
    method: 'POST',
    path: /^\/v1\/orders\/[^/]+\/cancel$/,
    replies: { 200: orderReply, 202: orderReply },
  },
  { method: 'POST', path: /^\/v1\/orders\/[^/]+\/payment$/, replies: { 201: sessionReply } },
  {
    method: 'GET',
    path: /^\/v1\/admin\/sales\/[^/?]+\/settlement(\?|$)/,
    replies: { 200: z.union([settlementReply, text]) },
  },
  { method: 'GET', path: /^\/v1\/admin\/orders\?/, replies: { 200: staffOrdersReply } },
  { method: 'GET', path: /^\/v1\/admin\/orders\/[^/?]+$/, replies: { 200: orderFileReply } },
  {
    method: 'POST',
    path: /^\/v1\/admin\/orders\/[^/]+\/cancel$/,
    replies: { 200: staffOrderReply, 202: staffOrderReply },
  },
  {
    method: 'POST',
    path: /^\/v1\/admin\/orders\/[^/]+\/refunds$/,
    replies: { 200: orderRefundReply, 202: orderRefundReply },
  },
  {
    method: 'POST',
    path: /^\/v1\/admin\/orders\/[^/]+\/refunds\/[^/]+\/withdraw$/,
    replies: { 200: orderRefundReply },
  },
  { method: 'POST', path: /^\/v1\/admin\/payments\/[^/]+\/refund$/, replies: { 202: refundReply } },
  { method: 'POST', path: /^\/v1\/admin\/orders\/[^/]+\/return-stock$/, replies: { 202: returnStockReply } },
  { method: 'GET', path: /^\/v1\/admin\/events(\?|$)/, replies: { 200: eventsReply } },
  { method: 'GET', path: /^\/v1\/admin\/events\/consumers$/, replies: { 200: consumersReply } },
  { method: 'GET', path: /^\/v1\/admin\/events\/consumers\/[^/]+$/, replies: { 200: consumerReply } },
  { method: 'PUT', path: /^\/v1\/admin\/events\/consumers\/[^/]+$/, replies: { 200: consumerReply } },
  { method: 'DELETE', path: /^\/v1\/admin\/events\/consumers\/[^/]+$/, replies: { 204: empty } },
  { method: 'GET', path: /^\/v1\/admin\/endpoints$/, replies: { 200: endpointListReply } },
  { method: 'GET', path: /^\/v1\/admin\/endpoints\/[^/]+$/, replies: { 200: endpointReply } },
  {
    method: 'PUT',
    path: /^\/v1\/admin\/endpoints\/[^/]+$/,
    replies: { 200: endpointReply, 201: createdEndpointReply },
  },
  { method: 'DELETE', path: /^\/v1\/admin\/endpoints\/[^/]+$/, replies: { 204: empty } },
  {
    method: 'POST',
    path: /^\/v1\/admin\/endpoints\/[^/]+\/rotate-secret$/,
    replies: { 200: createdEndpointReply },
  },
  {
    method: 'POST',
    path: /^\/v1\/admin\/endpoints\/[^/]+\/(retire-secret|enable|disable)$/,
    replies: { 200: endpointReply },
  },
  { method: 'POST', path: /^\/v1\/admin\/endpoints\/[^/]+\/test$/, replies: { 202: testReply } },
  { method: 'POST', path: /^\/v1\/admin\/endpoints\/[^/]+\/replay$/, replies: { 202: replayReply } },
  {
    method: 'GET',
    path: /^\/v1\/admin\/endpoints\/[^/]+\/deliveries(\?|$)/,
    replies: { 200: deliveriesReply },
  },
  { method: 'GET', path: /^\/v1\/admin\/sales(\?.*)?$/, replies: { 200: salesReply } },
  { method: 'GET', path: /^\/v1\/admin\/sales\/[^/]+$/, replies: { 200: shopSaleReply } },
  {
    method: 'PUT',
    path: /^\/v1\/admin\/sales\/[^/]+$/,
    replies: { 200: shopSaleReply, 201: shopSaleReply },
  },
  {
    method: 'POST',
    path: /^\/v1\/admin\/sales\/[^/]+\/(pause|resume|close|archive)$/,
    replies: { 200: shopSaleReply },
  },
  { method: 'GET', path: /^\/(demo\/page\.(css|js))?$/, replies: { 200: text } },
  { method: 'POST', path: /^\/demo\/token$/, replies: { 200: tokenReply } },
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
