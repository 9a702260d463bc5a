/** The back office's calls about endpoints, and what is delivered to them. */

import { ulid } from 'ulidx';
import { z } from 'zod';
import { EVENT_TYPES, DELIVERY_STATUSES } from '../../events/event.ts';
import { SALE_ID_PATTERN } from '../../limits.ts';
import { parseOrderNo } from '../../orders/order.ts';
import { parseEndpointUrl, type UrlRules } from '../../push/address.ts';
import { createSecret } from '../../push/deliverer.ts';
import type { Delivery, DeliveryQuery } from '../../push/deliveries.sql.ts';
import type { Endpoint, EndpointTerms } from '../../push/endpoints.sql.ts';
import { startReplay } from '../../push/replayer.ts';
import { NO_STORE, reply } from '../http/answer.ts';
import { Problem } from '../http/problem.ts';
import { count, time, noBody } from '../http/replies.ts';
import { LIMIT_MEANS, wholeNumber } from '../http/request.ts';
import { adminCall, type AdminCalls, type BackOffice } from './call.ts';

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

export const endpointListReply = z.strictObject({ endpoints: z.array(endpointReply) });

export const testReply = z.strictObject({ eventId: z.string() });

/** events: how many are delivered once more; null: those of a time, which are not counted yet. */
export const replayReply = z.strictObject({ events: count.nullable() });

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

/** What the calls about one endpoint have in common. */
const ofEndpoint = {
  params: {
    schema: z.object({ name: z.string().regex(ENDPOINT_NAME_PATTERN) }),
    otherwise: 'endpoint_not_found',
  },
  away: 'endpoints_unavailable',
} as const;

/** A change that is made by a word, and answered with the endpoint as it is then. */
const byWord = (
  id: string,
  does: string,
  change: (office: BackOffice, name: string, actor: string) => Promise<Endpoint | undefined>,
) =>
  adminCall({
    id,
    does,
    scope: 'endpoints:write',
    ...ofEndpoint,
    replies: { 200: endpointReply },
    refuses: UNKNOWN,
    async answer(office, { params: { name }, actor }) {
      const endpoint = await change(office, name, actor);
      return endpoint ? reply(toReply(endpoint)) : { kind: 'unknown' };
    },
  });

const UNKNOWN = { unknown: 'endpoint_not_found' } as const;

/** Each change may be repeated; the user id of who made it is recorded. */
export const endpointCalls = {
  'GET /v1/admin/endpoints': adminCall({
    id: 'listEndpoints',
    does: 'All endpoints by their names',
    scope: 'events:read',
    replies: { 200: endpointListReply },
    away: 'endpoints_unavailable',
    refuses: {},
    answer: async ({ endpoints }) => reply({ endpoints: (await endpoints.list()).map(toReply) }),
  }),
  'GET /v1/admin/endpoints/:name': adminCall({
    id: 'getEndpoint',
    does: 'An endpoint, and how it fares',
    scope: 'events:read',
    ...ofEndpoint,
    replies: { 200: endpointReply },
    refuses: UNKNOWN,
    async answer({ endpoints }, { params: { name } }) {
      const endpoint = await endpoints.read(name);
      return endpoint ? reply(toReply(endpoint)) : { kind: 'unknown' };
    },
  }),
  'PUT /v1/admin/endpoints/:name': adminCall({
    id: 'putEndpoint',
    does: 'Creates an endpoint, or changes what is said of it',
    scope: 'endpoints:write',
    ...ofEndpoint,
    params: { schema: ofEndpoint.params.schema },
    body: { schema: endpointBody },
    replies: { 200: endpointReply, 201: createdEndpointReply },
    refuses: { full: 'too_many_endpoints' },
    async answer({ endpoints, pushRules }, { params: { name }, body, actor }) {
      const secret = createSecret();
      const outcome = await endpoints.put(name, termsOf(body, pushRules), secret, actor);
      switch (outcome.kind) {
        case 'created':
          return reply({ ...toReply(outcome.endpoint), secret }, 201, NO_STORE);
        case 'changed':
          return reply(toReply(outcome.endpoint));
        case 'full':
          return outcome;
        default:
          return outcome satisfies never;
      }
    },
  }),
  'DELETE /v1/admin/endpoints/:name': adminCall({
    id: 'removeEndpoint',
    does: 'Sends nothing to it any more, and deletes its deliveries; also when there is none',
    scope: 'endpoints:write',
    params: { schema: z.object({ name: z.string() }) },
    replies: { 204: noBody },
    away: 'endpoints_unavailable',
    refuses: {},
    async answer({ endpoints }, { params: { name }, actor }) {
      await endpoints.remove(name, actor);
      return reply('', 204);
    },
  }),
  'POST /v1/admin/endpoints/:name/rotate-secret': adminCall({
    id: 'rotateEndpointSecret',
    does: 'Gives it a new secret; both sign from then on',
    scope: 'endpoints:write',
    ...ofEndpoint,
    replies: { 200: createdEndpointReply },
    refuses: UNKNOWN,
    async answer({ endpoints }, { params: { name }, actor }) {
      const secret = createSecret();
      const endpoint = await endpoints.rotateSecret(name, secret, actor);
      return endpoint ? reply({ ...toReply(endpoint), secret }, 200, NO_STORE) : { kind: 'unknown' };
    },
  }),
  'POST /v1/admin/endpoints/:name/retire-secret': byWord(
    'retireEndpointSecret',
    'Has the new secret alone sign',
    ({ endpoints }, name, actor) => endpoints.retireSecret(name, actor),
  ),
  'POST /v1/admin/endpoints/:name/enable': byWord(
    'enableEndpoint',
    'Sends to it again; all that waits is due at once',
    ({ endpoints }, name, actor) => endpoints.enable(name, actor),
  ),
  'POST /v1/admin/endpoints/:name/disable': byWord(
    'disableEndpoint',
    'Sends nothing to it, and misses nothing',
    ({ endpoints }, name, actor) => endpoints.disable(name, actor),
  ),
  'POST /v1/admin/endpoints/:name/test': adminCall({
    id: 'testEndpoint',
    does: 'Has one attempt made with an event of the type `endpoint.test`',
    scope: 'endpoints:write',
    ...ofEndpoint,
    replies: { 202: testReply },
    refuses: { ...UNKNOWN, disabled: 'endpoint_disabled' },
    async answer({ replays }, { params: { name } }) {
      const outcome = await replays.test(name, `test.${ulid()}`);
      return outcome.kind === 'due' ? reply({ eventId: outcome.eventId }, 202) : outcome;
    },
  }),
  'POST /v1/admin/endpoints/:name/replay': adminCall({
    id: 'replayEvents',
    does: 'Has events delivered once more: one, all of an order, or those of a time',
    scope: 'endpoints:write',
    ...ofEndpoint,
    body: { schema: replayBody },
    replies: { 202: replayReply },
    refuses: { ...UNKNOWN, 'no-event': 'event_not_found', running: 'replay_running' },
    async answer(office, { params: { name }, body, actor }) {
      if (!(await office.endpoints.read(name))) return { kind: 'unknown' };
      const what = 'since' in body ? { sinceMs: body.since, beforeMs: body.until } : body;
      const outcome = await startReplay(office, name, what, actor);
      return outcome.kind === 'started' ? reply({ events: outcome.events }, 202) : outcome;
    },
  }),
  'GET /v1/admin/endpoints/:name/deliveries': adminCall({
    id: 'listDeliveries',
    does: 'What became of its deliveries, a page at a time',
    scope: 'events:read',
    ...ofEndpoint,
    query: listQuery,
    replies: { 200: deliveriesReply },
    refuses: UNKNOWN,
    async answer({ endpoints, deliveries }, { params: { name }, query }) {
      const { status = 'waiting', orderNo, after, limit } = query;
      const endpoint = await endpoints.read(name);
      if (!endpoint) return { kind: 'unknown' };
      const which: DeliveryQuery = orderNo === undefined ? { status } : { line: orderNo };
      // One more than asked for shows whether there are more.
      const found = await deliveries.list(endpoint.endpointId, which, { after, limit: limit + 1 });
      const page = found.slice(0, limit);
      const next = found.length > limit ? (page.at(-1)?.deliveryId ?? null) : null;
      return reply({ deliveries: page.map(toDeliveryReply), next });
    },
  }),
} satisfies AdminCalls;

function termsOf(
  { url: text, types = null, saleId = null, description }: z.infer<typeof endpointBody>,
  rules: UrlRules,
): EndpointTerms {
  const url = parseEndpointUrl(text, rules);
  if (typeof url === 'string')
    throw new Problem('invalid_request', { extra: { faults: [{ path: 'url', message: url }] } });
  return { url: url.href, types: types && [...new Set(types)], saleId, description };
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
