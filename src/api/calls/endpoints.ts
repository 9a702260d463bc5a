/** The back office's calls about endpoints, and what is delivered to them. */

import { ulid } from 'ulidx';
import { z } from 'zod';
import { EVENT_TYPES, DELIVERY_STATUSES } from '../../events/event.ts';
import { SALE_ID_PATTERN } from '../../limits.ts';
import { parseOrderNo } from '../../orders/order.ts';
import { parseEndpointUrl, type UrlRules } from '../../push/address.ts';
import { createSecret } from '../../push/deliverer.ts';
import type { Delivery, DeliveryQuery } from '../../push/deliveries.sql.ts';
import { MAX_PUSH_ENDPOINTS } from '../../push/endpoints.sql.ts';
import type { Endpoint, EndpointTerms } from '../../push/endpoints.sql.ts';
import { startReplay } from '../../push/replayer.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import { count, time, noBody } from '../http/replies.ts';
import { LIMIT_MEANS, wholeNumber } from '../http/request.ts';
import type { AdminCalls, AdminContext, BackOffice } from './call.ts';

/** Characters of an endpoint's description. The width of the column. */
const MAX_ENDPOINT_DESCRIPTION_CHARS = 255;

/** Deliveries in one answer: some 30 KB. */
export const MAX_DELIVERIES_PAGE = 100;

/** Names of endpoints are part of addresses and of parked work: lower case, digits and single dashes. */
const ENDPOINT_NAME_PATTERN = /^(?=.{1,64}$)[a-z0-9]+(?:-[a-z0-9]+)*$/;

export const endpointReply = z.strictObject({
  name: z.string(),
  url: z.url(),
  /** Null: all. */
  types: z.array(z.enum(EVENT_TYPES)).nullable(),
  /** Null: of every sale. */
  saleId: z.string().nullable(),
  description: z.string(),
  /** disabled: nothing is sent, and its place in the feed waits. */
  state: z.enum(['active', 'disabled']),
  /** gone: it answered 410. */
  disabledFor: z.enum(['operator', 'gone']).nullable(),
  createdAt: time,
  /** Until then the secret before the current one signs too. */
  rotatingUntil: time.nullable(),
  /** Events of a time are being delivered once more. */
  replaying: z.boolean(),
  health: z.strictObject({
    /** failing: its last attempt failed. down: several did, so that one delivery at a time is tried. */
    state: z.enum(['up', 'failing', 'down']),
    failures: count,
    failingSince: time.nullable(),
    lastSuccessAt: time.nullable(),
    lastError: z.string().nullable(),
    waiting: count,
    /** Since then the oldest delivery waits. */
    waitingSince: time.nullable(),
    /** Events of the feed that are yet to be looked at for it. */
    behind: count,
  }),
});
type EndpointReply = z.infer<typeof endpointReply>;

/** Shown once: it cannot be asked for later. */
const shownSecret = z.string().startsWith('whsec_');

export const createdEndpointReply = endpointReply.extend({ secret: shownSecret });
type CreatedEndpointReply = z.infer<typeof createdEndpointReply>;

export const endpointListReply = z.strictObject({ endpoints: z.array(endpointReply) });
type EndpointListReply = z.infer<typeof endpointListReply>;

export const testReply = z.strictObject({ eventId: z.string() });
type TestReply = z.infer<typeof testReply>;

/** events: how many are delivered once more; null: those of a time, which are not counted yet. */
export const replayReply = z.strictObject({ events: count.nullable() });
type ReplayReply = z.infer<typeof replayReply>;

export const deliveriesReply = z.strictObject({
  deliveries: z.array(
    z.strictObject({
      id: z.int().min(1),
      eventId: z.string(),
      /** Null: a test. */
      sequence: z.int().min(1).nullable(),
      status: z.enum(DELIVERY_STATUSES),
      attempts: count,
      /** Null: it has ended, or an earlier one of its order comes first. */
      dueAt: time.nullable(),
      lastError: z.string().nullable(),
      createdAt: time,
      endedAt: time.nullable(),
    }),
  ),
  /** Where the next page begins; null: this was the last. */
  next: z.int().nullable(),
});
type DeliveriesReply = z.infer<typeof deliveriesReply>;

const endpointBody = z.strictObject({
  url: z.string().min(1),
  types: z.array(z.enum(EVENT_TYPES)).min(1).max(EVENT_TYPES.length).nullish(),
  saleId: z.string().regex(SALE_ID_PATTERN).nullish(),
  description: z
    .string()
    .trim()
    .max(MAX_ENDPOINT_DESCRIPTION_CHARS)
    .regex(/^\P{C}*$/u)
    .default(''),
});

const listQuery = z
  .strictObject({
    status: z.enum(DELIVERY_STATUSES).optional().describe('Those in this state; `waiting` unless given.'),
    orderNo: z
      .string()
      .refine((text) => parseOrderNo(text) !== undefined, 'is no order number')
      .optional()
      .describe('Instead of `status`: those of this order, whatever became of them.'),
    after: wholeNumber.default(0).describe('Those after this `id`.'),
    limit: wholeNumber
      .pipe(z.int().min(1).max(MAX_DELIVERIES_PAGE))
      .default(MAX_DELIVERIES_PAGE)
      .describe(LIMIT_MEANS),
  })
  .refine(({ status, orderNo }) => status === undefined || orderNo === undefined, {
    path: ['orderNo'],
    message: 'goes without status',
  });

const moment = z.iso.datetime({ offset: true }).transform((text) => Date.parse(text));
const replayBody = z.union([
  z.strictObject({ eventId: z.string().min(1).max(128) }),
  z.strictObject({ orderNo: z.string().min(1).max(128) }),
  z
    .strictObject({ since: moment, until: moment })
    .refine(({ since, until }) => since < until, { path: ['until'], message: 'must be after since' }),
]);

/** Each change may be repeated; the user id of who made it is recorded. */
export const endpointCalls = {
  'GET /v1/admin/endpoints': {
    id: 'listEndpoints',
    does: 'All endpoints by their names',
    scope: 'events:read',
    replies: { 200: endpointListReply },
    refuses: ['endpoints_unavailable'],
    handle: listEndpoints,
  },
  'GET /v1/admin/endpoints/:name': {
    id: 'getEndpoint',
    does: 'An endpoint, and how it fares',
    scope: 'events:read',
    replies: { 200: endpointReply },
    refuses: ['endpoint_not_found', 'endpoints_unavailable'],
    handle: readEndpoint,
  },
  'PUT /v1/admin/endpoints/:name': {
    id: 'putEndpoint',
    does: 'Creates an endpoint, or changes what is said of it',
    scope: 'endpoints:write',
    body: { schema: endpointBody },
    replies: { 200: endpointReply, 201: createdEndpointReply },
    refuses: ['too_many_endpoints', 'endpoints_unavailable'],
    handle: putEndpoint,
  },
  'DELETE /v1/admin/endpoints/:name': {
    id: 'removeEndpoint',
    does: 'Sends nothing to it any more, and deletes its deliveries; also when there is none',
    scope: 'endpoints:write',
    replies: { 204: noBody },
    refuses: ['endpoints_unavailable'],
    handle: removeEndpoint,
  },
  'POST /v1/admin/endpoints/:name/rotate-secret': {
    id: 'rotateEndpointSecret',
    does: 'Gives it a new secret; both sign from then on',
    scope: 'endpoints:write',
    replies: { 200: createdEndpointReply },
    refuses: ['endpoint_not_found', 'endpoints_unavailable'],
    handle: rotateSecret,
  },
  'POST /v1/admin/endpoints/:name/retire-secret': {
    id: 'retireEndpointSecret',
    does: 'Has the new secret alone sign',
    scope: 'endpoints:write',
    replies: { 200: endpointReply },
    refuses: ['endpoint_not_found', 'endpoints_unavailable'],
    handle: (office, ctx) => answerWith(ctx, office.endpoints.retireSecret),
  },
  'POST /v1/admin/endpoints/:name/enable': {
    id: 'enableEndpoint',
    does: 'Sends to it again; all that waits is due at once',
    scope: 'endpoints:write',
    replies: { 200: endpointReply },
    refuses: ['endpoint_not_found', 'endpoints_unavailable'],
    handle: (office, ctx) => answerWith(ctx, office.endpoints.enable),
  },
  'POST /v1/admin/endpoints/:name/disable': {
    id: 'disableEndpoint',
    does: 'Sends nothing to it, and misses nothing',
    scope: 'endpoints:write',
    replies: { 200: endpointReply },
    refuses: ['endpoint_not_found', 'endpoints_unavailable'],
    handle: (office, ctx) => answerWith(ctx, office.endpoints.disable),
  },
  'POST /v1/admin/endpoints/:name/test': {
    id: 'testEndpoint',
    does: 'Has one attempt made with an event of the type `endpoint.test`',
    scope: 'endpoints:write',
    replies: { 202: testReply },
    refuses: ['endpoint_not_found', 'endpoint_disabled', 'endpoints_unavailable'],
    handle: testEndpoint,
  },
  'POST /v1/admin/endpoints/:name/replay': {
    id: 'replayEvents',
    does: 'Has events delivered once more: one, all of an order, or those of a time',
    scope: 'endpoints:write',
    body: { schema: replayBody },
    replies: { 202: replayReply },
    refuses: ['endpoint_not_found', 'event_not_found', 'replay_running', 'endpoints_unavailable'],
    handle: replayEvents,
  },
  'GET /v1/admin/endpoints/:name/deliveries': {
    id: 'listDeliveries',
    does: 'What became of its deliveries, a page at a time',
    scope: 'events:read',
    query: listQuery,
    replies: { 200: deliveriesReply },
    refuses: ['endpoint_not_found', 'endpoints_unavailable'],
    handle: listDeliveries,
  },
} satisfies AdminCalls;

async function listEndpoints({ endpoints }: BackOffice, ctx: AdminContext): Promise<void> {
  const found = await reach(() => endpoints.list());
  ctx.body = { endpoints: found.map(toReply) } satisfies EndpointListReply;
}

function readEndpoint({ endpoints }: BackOffice, ctx: AdminContext): Promise<void> {
  return answerWith(ctx, (name) => endpoints.read(name));
}

async function putEndpoint({ endpoints, pushRules }: BackOffice, ctx: AdminContext): Promise<void> {
  const name = ctx.params['name'] ?? '';
  if (!ENDPOINT_NAME_PATTERN.test(name)) throw invalid('name', 'lower case, digits and single dashes');
  const terms = parseTerms(ctx.state.body, pushRules);
  const secret = createSecret();
  const outcome = await reach(() => endpoints.put(name, terms, secret, ctx.state.userId));
  switch (outcome.kind) {
    case 'created':
      ctx.status = 201;
      ctx.body = { ...toReply(outcome.endpoint), secret } satisfies CreatedEndpointReply;
      ctx.set('Cache-Control', 'no-store');
      return;
    case 'changed':
      ctx.body = toReply(outcome.endpoint);
      return;
    case 'full':
      throw new Problem('too_many_endpoints', `There are ${MAX_PUSH_ENDPOINTS} endpoints already.`);
    default:
      outcome satisfies never;
  }
}

/** Also when there is none any more, so that it may be repeated. */
async function removeEndpoint({ endpoints }: BackOffice, ctx: AdminContext): Promise<void> {
  const name = ctx.params['name'] ?? '';
  if (ENDPOINT_NAME_PATTERN.test(name)) await reach(() => endpoints.remove(name, ctx.state.userId));
  ctx.status = 204;
}

async function rotateSecret({ endpoints }: BackOffice, ctx: AdminContext): Promise<void> {
  const secret = createSecret();
  const endpoint = await known(ctx, (name) => endpoints.rotateSecret(name, secret, ctx.state.userId));
  ctx.body = { ...toReply(endpoint), secret } satisfies CreatedEndpointReply;
  ctx.set('Cache-Control', 'no-store');
}

async function testEndpoint({ replays }: BackOffice, ctx: AdminContext): Promise<void> {
  const name = nameOf(ctx);
  const outcome = await reach(() => replays.test(name, `test.${ulid()}`));
  switch (outcome.kind) {
    case 'due':
      ctx.status = 202;
      ctx.body = { eventId: outcome.eventId } satisfies TestReply;
      return;
    case 'disabled':
      throw new Problem('endpoint_disabled', 'Nothing is sent to it; enable it first.');
    case 'unknown':
      throw endpointNotFound();
    default:
      outcome satisfies never;
  }
}

/** Answers with the endpoint as it is after a change. */
async function answerWith(
  ctx: AdminContext,
  change: (name: string, actor: string) => Promise<Endpoint | undefined>,
): Promise<void> {
  const endpoint = await known(ctx, (name) => change(name, ctx.state.userId));
  ctx.body = toReply(endpoint);
}

/** @throws Problem when the address names no endpoint */
function nameOf(ctx: AdminContext): string {
  const name = ctx.params['name'] ?? '';
  if (!ENDPOINT_NAME_PATTERN.test(name)) throw endpointNotFound();
  return name;
}

function endpointNotFound(): Problem {
  return new Problem('endpoint_not_found', 'There is no endpoint of this name.');
}

/** The outcome for the endpoint that the address names. */
async function known<T>(ctx: AdminContext, ask: (name: string) => Promise<T | undefined>): Promise<T> {
  const name = nameOf(ctx);
  const found = await reach(() => ask(name));
  if (found === undefined) throw endpointNotFound();
  return found;
}

async function reach<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    throw unavailable('endpoints_unavailable', 'The endpoints cannot be reached; send it again.', error);
  }
}

function parseTerms(body: unknown, rules: UrlRules): EndpointTerms {
  const { url: text, types = null, saleId = null, description } = parseInput(endpointBody, body);
  const url = parseEndpointUrl(text, rules);
  if (typeof url === 'string') throw invalid('url', url);
  return { url: url.href, types: types && [...new Set(types)], saleId, description };
}

function invalid(path: string, message: string): Problem<'invalid_request'> {
  return new Problem('invalid_request', 'The request is not as it must be.', {
    extra: { faults: [{ path, message }] },
  });
}

function toReply({ health, ...endpoint }: Endpoint): EndpointReply {
  const { name, url, types, saleId, description, disabledFor } = endpoint;
  const failing = health.failures > 0 ? 'failing' : 'up';
  return {
    name,
    url,
    types,
    saleId,
    description,
    state: disabledFor === null ? 'active' : 'disabled',
    disabledFor,
    createdAt: endpoint.createdAt.toISOString(),
    rotatingUntil: endpoint.rotatingUntil?.toISOString() ?? null,
    replaying: endpoint.isReplaying,
    health: {
      state: health.isDown ? 'down' : failing,
      failures: health.failures,
      failingSince: health.failingSince?.toISOString() ?? null,
      lastSuccessAt: health.lastSuccessAt?.toISOString() ?? null,
      lastError: health.lastError,
      waiting: health.waiting,
      waitingSince: health.waitingSince?.toISOString() ?? null,
      behind: health.behind,
    },
  };
}

async function listDeliveries({ endpoints, deliveries }: BackOffice, ctx: AdminContext): Promise<void> {
  const { status = 'waiting', orderNo, after, limit } = parseInput(listQuery, { ...ctx.query });
  const { endpointId } = await known(ctx, (name) => endpoints.read(name));
  const query: DeliveryQuery = orderNo === undefined ? { status } : { line: orderNo };
  // One more than asked for shows whether there are more.
  const found = await reach(() => deliveries.list(endpointId, query, { after, limit: limit + 1 }));
  const page = found.slice(0, limit);
  ctx.body = {
    deliveries: page.map(toDeliveryReply),
    next: found.length > limit ? (page.at(-1)?.deliveryId ?? null) : null,
  } satisfies DeliveriesReply;
}

async function replayEvents(office: BackOffice, ctx: AdminContext): Promise<void> {
  const name = nameOf(ctx);
  const body = parseInput(replayBody, ctx.state.body);
  await known(ctx, (endpoint) => office.endpoints.read(endpoint));
  const what = 'since' in body ? { sinceMs: body.since, beforeMs: body.until } : body;
  const outcome = await reach(() => startReplay(office, name, what, ctx.state.userId));
  switch (outcome.kind) {
    case 'started':
      ctx.status = 202;
      ctx.body = { events: outcome.events } satisfies ReplayReply;
      return;
    case 'running':
      throw new Problem('replay_running', 'Another time is being replayed to this endpoint.');
    case 'no-event':
      throw new Problem('event_not_found', 'There is no such event.');
    case 'unknown':
      throw endpointNotFound();
    default:
      outcome satisfies never;
  }
}

function toDeliveryReply(delivery: Delivery): DeliveriesReply['deliveries'][number] {
  const { deliveryId, eventId, sequence, status, attempts, dueAt, lastError, createdAt, endedAt } = delivery;
  return {
    id: deliveryId,
    eventId,
    sequence,
    status,
    attempts,
    dueAt: dueAt?.toISOString() ?? null,
    lastError,
    createdAt: createdAt.toISOString(),
    endedAt: endedAt?.toISOString() ?? null,
  };
}
