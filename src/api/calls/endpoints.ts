/** The back office's calls about endpoints, and what is delivered to them. */

import { ulid } from 'ulidx';
import { z } from 'zod';
import { EVENT_TYPES, DELIVERY_STATUSES } from '../../events/event.ts';
import { readEvents } from '../../events/feed.ts';
import { saleIdSchema } from '../../orders/content.ts';
import { parseOrderNo } from '../../orders/order.ts';
import { parseEndpointUrl, type UrlRules } from '../../push/address.ts';
import { bodyOf, createSecret, toTest } from '../../push/deliverer.ts';
import type { Delivery, DeliveryQuery } from '../../push/deliveries.sql.ts';
import type { Endpoint, EndpointTerms } from '../../push/endpoints.sql.ts';
import { startReplay } from '../../push/replayer.ts';
import { reply } from '../http/answer.ts';
import { Problem } from '../http/problem.ts';
import { count, noBody, time, nextNumber, pageOf } from '../http/replies.ts';
import { LIMIT_MEANS, moment, wholeNumber } from '../http/request.ts';
import { adminCall, type AdminCalls, type BackOffice, rowId } from './call.ts';

/** Characters of an endpoint's description. The width of the column. */
const MAX_ENDPOINT_DESCRIPTION_CHARS = 255;

/** Deliveries in one answer: some 30 KB. */
export const MAX_DELIVERIES_PAGE = 100;

/** Names of endpoints are part of addresses and of parked work: lower case, digits and single dashes. */
const ENDPOINT_NAME_PATTERN = /^(?=.{1,64}$)[a-z0-9]+(?:-[a-z0-9]+)*$/;

/** In the body and in the answers. */
const MEANS = {
  url: 'The address that events are posted to.',
  types: 'The types of events that the endpoint gets; null: all.',
  saleId: 'The sale whose events the endpoint gets; null: every sale.',
  description: 'What the endpoint is for.',
};
const shownError = z
  .string()
  .nullable()
  .meta({ examples: [null] });

export const endpointReply = z
  .strictObject({
    name: z.string().meta({ description: 'The name of the endpoint.', examples: ['office'] }),
    url: z.url().meta({ description: MEANS.url, examples: ['https://office.shop.example/holdfast'] }),
    types: z
      .array(z.enum(EVENT_TYPES))
      .nullable()
      .meta({ description: MEANS.types, examples: [['order.paid', 'order.cancelled']] }),
    saleId: saleIdSchema.nullable().describe(MEANS.saleId),
    description: z.string().meta({ description: MEANS.description, examples: ['fulfilment'] }),
    state: z
      .enum(['active', 'disabled'])
      .describe('`disabled`: nothing is sent to the endpoint, and its place in the feed waits.'),
    disabledFor: z
      .enum(['operator', 'gone'])
      .nullable()
      .meta({
        description: 'Why the endpoint is disabled. `gone`: it answered 410. Null: it is active.',
        examples: [null],
      }),
    createdAt: time.describe('When the endpoint was made.'),
    rotatingUntil: time.nullable().meta({
      description:
        'Until then the secret before the current one signs too; null: the current one alone signs.',
      examples: [null],
    }),
    replaying: z.boolean().describe('Events of a time are being delivered once more.'),
    health: z
      .strictObject({
        state: z
          .enum(['up', 'failing', 'down'])
          .describe(
            '`failing`: the last attempt failed. `down`: several did, and one delivery at a time is tried.',
          ),
        failures: count.describe('Failed attempts since the last success.'),
        failingSince: time.nullable().meta({
          description: 'When the first of them failed; null: the last attempt did not fail.',
          examples: [null],
        }),
        lastSuccessAt: time.nullable().describe('When the endpoint last took an event; null: it never did.'),
        lastError: shownError.describe('Why an attempt last failed; null: none did.'),
        waiting: count.describe('Deliveries that wait.'),
        waitingSince: time.nullable().meta({
          description: 'Since then the oldest delivery waits; null: none waits.',
          examples: [null],
        }),
        behind: count.describe('Events of the feed that were not read for the endpoint yet.'),
      })
      .describe('How the endpoint fares.'),
  })
  .meta({ id: 'Endpoint', description: 'An endpoint of push.' });
type EndpointReply = z.infer<typeof endpointReply>;

export const createdEndpointReply = endpointReply
  .extend({
    secret: z
      .string()
      .startsWith('whsec_')
      .meta({
        description: 'The secret that signs. It is shown once.',
        examples: ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'],
      }),
  })
  .meta({ id: 'EndpointWithSecret', description: 'An endpoint of push with its secret.' });

export const endpointListReply = z
  .strictObject({ endpoints: z.array(endpointReply).describe('The endpoints, by their names.') })
  .meta({ id: 'EndpointList', description: 'All endpoints of push.' });

const shownEventId = z.string().meta({
  description: 'The id of the event.',
  examples: ['demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG.1'],
});

export const testReply = z
  .strictObject({ eventId: shownEventId.meta({ examples: ['test.01KAJ5T0ZV6Y3QH8M2C4D7E9FG'] }) })
  .describe('The event of the test.');

export const replayReply = z
  .strictObject({
    events: count
      .nullable()
      .describe('Events that are delivered once more; null: those of a time are not counted.'),
  })
  .describe('What is delivered once more.');

const deliveryReply = z.strictObject({
  id: z.int().min(1).describe('The number of the delivery.'),
  eventId: shownEventId,
  sequence: z
    .int()
    .min(1)
    .nullable()
    .meta({ description: 'The place of the event in the feed; null: a test.', examples: [48] }),
  status: z
    .enum(DELIVERY_STATUSES)
    .describe('`delivered`: the endpoint answered 2xx. `parked`: the last try failed.'),
  attempts: count.describe('Attempts so far.'),
  dueAt: time
    .nullable()
    .describe('When it is tried next; null: it has ended, or an earlier event of its order comes first.'),
  lastError: shownError.describe('Why it last failed; null: it did not.'),
  createdAt: time.describe('When the delivery was added.'),
  endedAt: time.nullable().meta({ description: 'When it ended; null: it waits.', examples: [null] }),
});

export const deliveriesReply = z
  .strictObject({
    deliveries: z.array(deliveryReply).describe('The deliveries, in the order in which they were added.'),
    next: nextNumber,
  })
  .meta({ id: 'DeliveryPage', description: 'A page of deliveries.' });

export const deliveryFileReply = deliveryReply
  .extend({
    body: z
      .looseObject({})
      .nullable()
      .meta({
        description: 'What would be sent now; null: the event is not there any more.',
        examples: [null],
      }),
    tries: z
      .array(
        z.strictObject({
          at: time.describe('When it was sent.'),
          tookMs: count.describe('Milliseconds that the endpoint took.'),
          status: z
            .int()
            .nullable()
            .meta({ description: 'The status of the answer; null: there was none.', examples: [503] }),
          error: z
            .string()
            .nullable()
            .meta({ description: 'Why there was no answer; null: there was one.', examples: [null] }),
          answer: z
            .string()
            .nullable()
            .meta({
              description: "The first 500 characters of the answer's body; null: there was no answer.",
              examples: ['Bad gateway'],
            }),
        }),
      )
      .describe('The latest 20 tries, the oldest first.'),
  })
  .meta({ id: 'Delivery', description: 'A delivery with its tries.' });

const endpointBody = z
  .strictObject({
    url: z.string().min(1).describe(MEANS.url),
    types: z.array(z.enum(EVENT_TYPES)).min(1).max(EVENT_TYPES.length).nullish().describe(MEANS.types),
    saleId: saleIdSchema.nullish().describe(MEANS.saleId),
    description: z
      .string()
      .trim()
      .max(MAX_ENDPOINT_DESCRIPTION_CHARS)
      .regex(/^\P{C}*$/u)
      .default('')
      .describe(MEANS.description),
  })
  .meta({
    id: 'EndpointTerms',
    description: 'An endpoint as its shop decides it.',
    examples: [
      {
        url: 'https://office.shop.example/holdfast',
        types: ['order.paid', 'order.cancelled'],
        description: 'fulfilment',
      },
    ],
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

const replayBody = z
  .union([
    z.strictObject({ eventId: z.string().min(1).max(128).describe('This event.') }),
    z.strictObject({ orderNo: z.string().min(1).max(128).describe('All events of this order.') }),
    z
      .strictObject({
        since: moment.describe('The events from this time on: RFC 3339, with any offset.'),
        until: moment.describe('The events before this time: RFC 3339, with any offset.'),
      })
      .refine(({ since, until }) => since < until, { path: ['until'], message: 'must be after since' }),
  ])
  .meta({ examples: [{ since: '2026-11-21T10:00:00Z', until: '2026-11-21T11:00:00Z' }] });

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
          return reply({ ...toReply(outcome.endpoint), secret }, 201);
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
      return endpoint ? reply({ ...toReply(endpoint), secret }) : { kind: 'unknown' };
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
      const found = await deliveries.list(endpoint.endpointId, which, { after, limit: limit + 1 });
      const { page, next } = pageOf(found, limit, ({ deliveryId }) => deliveryId);
      return reply({ deliveries: page.map(toDeliveryReply), next });
    },
  }),
  'GET /v1/admin/endpoints/:name/deliveries/:deliveryId': adminCall({
    id: 'getDelivery',
    does: 'A delivery with what is sent, and what the endpoint answered to each try',
    scope: 'events:read',
    ...ofEndpoint,
    params: {
      schema: ofEndpoint.params.schema.extend({ deliveryId: rowId }),
      otherwise: 'delivery_not_found',
    },
    replies: { 200: deliveryFileReply },
    refuses: { ...UNKNOWN, 'no-delivery': 'delivery_not_found' },
    async answer(office, { params: { name, deliveryId } }) {
      const endpoint = await office.endpoints.read(name);
      if (!endpoint) return { kind: 'unknown' };
      const found = await office.deliveries.read(endpoint.endpointId, deliveryId);
      if (!found) return { kind: 'no-delivery' };
      const message = await readMessage(office, found, name);
      const body = message ? bodyOf(message) : null;
      return reply({ ...toDeliveryReply(found), body, tries: found.tries });
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

/** Undefined: it was deleted. */
async function readMessage(office: BackOffice, { eventId, sequence, createdAt }: Delivery, name: string) {
  if (sequence === null) return toTest({ eventId, createdAtMs: createdAt.getTime(), endpointName: name });
  const page = await readEvents(office, { after: sequence - 1, limit: 1, filter: {} });
  return page.kind === 'page' ? page.events.find((event) => event.sequence === sequence) : undefined;
}

function toDeliveryReply(delivery: Delivery): z.infer<typeof deliveryReply> {
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
