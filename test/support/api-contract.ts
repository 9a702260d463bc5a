/**
 * What the API may answer: every reply that a test gets is held to the schemas that the handlers are typed
 * by.
 */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { ADMIN_CALLS, SHOP_CALLS } from '../../src/api/calls/calls.ts';
import { sourcedOrderReply } from '../../src/api/calls/find-order.ts';
import { tokenReply } from '../../src/api/demo-routes.ts';
import { healthReply, readyReply } from '../../src/api/health-routes.ts';
import { codesOf, partsOf } from '../../src/api/http/entry.ts';
import { PROBLEMS, type ProblemCode } from '../../src/api/http/problem-codes.ts';
import { problemReply } from '../../src/api/http/problem.ts';
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
  /** What it may be refused with; undefined: anything. */
  codes?: readonly ProblemCode[];
}

const text = z.string().min(1);

const ENTRIES = [...Object.entries(SHOP_CALLS), ...Object.entries(ADMIN_CALLS)];
const CALLS = ENTRIES.map(([call, entry]): Route => {
  const { method, path } = partsOf(call);
  return {
    method,
    path: new RegExp(`^${path.replaceAll(/:\w+/g, '[^/]+')}$`),
    replies: entry.replies,
    codes: codesOf(entry),
  };
});

const ROUTES: Route[] = [
  { method: 'GET', path: /^\/healthz$/, replies: { 200: healthReply } },
  { method: 'GET', path: /^\/readyz$/, replies: { 200: readyReply, 503: readyReply } },
  { method: 'GET', path: /^\/metrics$/, replies: { 200: text } },
  // The entry has both, of which each has its own question.
  {
    method: 'GET',
    path: /^\/v1\/orders\/[^/?]+\?source=workflow$/,
    replies: { 200: sourcedOrderReply, 304: noBody },
  },
  { method: 'GET', path: /^\/v1\/orders\/[^/?]+$/, replies: { 200: orderReply, 304: noBody } },
  { method: 'GET', path: /^\/(demo\/(page\.css|(page|work|altcha|scrypt)\.js))?$/, replies: { 200: text } },
  { method: 'GET', path: /^\/openapi\.json$/, replies: { 200: z.looseObject({}), 304: noBody } },
  { method: 'GET', path: /^\/docs(\/(page|viewer)\.js)?$/, replies: { 200: text } },
  { method: 'GET', path: /^\/problems\/[a-z_.]+$/, replies: { 200: text } },
  { method: 'POST', path: /^\/demo\/token$/, replies: { 200: tokenReply } },
  ...CALLS,
];

export const PROBLEM_CODES = Object.keys(PROBLEMS).filter(isPublished);

/** The sandbox provider's, to which tests send as well. */
const PROVIDER_PATH = /^\/v1\/(test|payment_sessions)\//;

/** What must never reach a caller: names of parts, addresses, statements, stack traces. */
const INTERNAL = /redis|mysql|mariadb|temporal|econn|127\.0\.0\.1|select |insert |\.ts\b|zod|koa|stack/i;

/**
 * What is promised for a call, by status; problems apart.
 * @param target a path with its query
 */
function findReplies(method: string, target: string): Route['replies'] | undefined {
  return findRoute(ROUTES, method, target)?.replies;
}

function findRoute(routes: readonly Route[], method: string, target: string): Route | undefined {
  const [pathname = ''] = target.split('?');
  return routes.find(({ path, ...route }) => {
    return route.method === method && (path.test(target) || path.test(pathname));
  });
}

/** @throws when the API has not promised this answer to this call */
export function checkReply(method: string, url: string, reply: Reply): void {
  const { pathname, search } = new URL(url);
  if (PROVIDER_PATH.test(pathname)) return;
  const schema = findReplies(method, pathname + search)?.[reply.status];
  if (!schema && reply.status >= 400) {
    const { code } = parseProblem(reply);
    const codes = findRoute(CALLS, method, pathname)?.codes;
    assert(!codes || codes.some((known) => known === code), `${method} ${pathname} does not name ${code}`);
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
  assert.equal(PROBLEMS[code].status, status, seen);
  assert.doesNotMatch(seen, INTERNAL);
  // Tests read the further members of a code by name.
  return namedMembers.parse(body);
}

const namedMembers = z.looseObject({ code: z.string(), detail: z.string() });

function isPublished(code: string): code is ProblemCode {
  return Object.hasOwn(PROBLEMS, code);
}
