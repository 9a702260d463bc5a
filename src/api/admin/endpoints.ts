/** The back office's calls about endpoints, and what is delivered to them. */

import { ulid } from 'ulidx';
import { z } from 'zod';
import { EVENT_TYPES, DELIVERY_STATUSES } from '../../domain/event.ts';
import {
  ENDPOINT_NAME_PATTERN,
  MAX_ENDPOINT_DESCRIPTION_CHARS,
  MAX_PUSH_ENDPOINTS,
  SALE_ID_PATTERN,
  MAX_DELIVERIES_PAGE,
} from '../../domain/limits.ts';
import { parseOrderNo } from '../../domain/order.ts';
import type { EventFeed } from '../../events/event-feed.ts';
import { parseEndpointUrl, type UrlRules } from '../../push/address.ts';
import { createSecret } from '../../push/deliverer.ts';
import { createEventSource } from '../../push/feeder.ts';
import { createReplayer } from '../../push/replayer.ts';
import type { Delivery, DeliveryQuery } from '../../stores/mysql/push/deliveries.ts';
import type { Endpoint, EndpointTerms } from '../../stores/mysql/push/endpoints.ts';
import type { Stores } from '../../stores/open.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import { wholeNumber } from '../http/query.ts';
import type {
  CreatedEndpointReply,
  EndpointListReply,
  EndpointReply,
  TestReply,
  DeliveriesReply,
  ReplayReply,
} from '../http/replies.ts';
import type { AdminContext } from './calls.ts';

export interface EndpointDeps extends Stores {
  pushRules: UrlRules;
}

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

/** Each change may be repeated; the user id of who made it is recorded. */
export function createEndpointRoutes({ endpoints, replays, pushRules }: EndpointDeps) {
  /** Answers with the endpoint as it is after a change. */
  async function answerWith(
    ctx: AdminContext,
    change: (name: string, actor: string) => Promise<Endpoint | undefined>,
  ): Promise<void> {
    const endpoint = await known(ctx, (name) => change(name, ctx.state.userId));
    ctx.body = toReply(endpoint);
  }

  return {
    async listEndpoints(ctx: AdminContext): Promise<void> {
      const found = await reach(() => endpoints.list());
      ctx.body = { endpoints: found.map(toReply) } satisfies EndpointListReply;
    },

    readEndpoint: (ctx: AdminContext): Promise<void> => answerWith(ctx, (name) => endpoints.read(name)),

    async putEndpoint(ctx: AdminContext): Promise<void> {
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
    },

    /** Also when there is none any more, so that it may be repeated. */
    async removeEndpoint(ctx: AdminContext): Promise<void> {
      const name = ctx.params['name'] ?? '';
      if (ENDPOINT_NAME_PATTERN.test(name)) await reach(() => endpoints.remove(name, ctx.state.userId));
      ctx.status = 204;
    },

    async rotateSecret(ctx: AdminContext): Promise<void> {
      const secret = createSecret();
      const endpoint = await known(ctx, (name) => endpoints.rotateSecret(name, secret, ctx.state.userId));
      ctx.body = { ...toReply(endpoint), secret } satisfies CreatedEndpointReply;
      ctx.set('Cache-Control', 'no-store');
    },

    retireSecret: (ctx: AdminContext): Promise<void> => answerWith(ctx, endpoints.retireSecret),
    enableEndpoint: (ctx: AdminContext): Promise<void> => answerWith(ctx, endpoints.enable),
    disableEndpoint: (ctx: AdminContext): Promise<void> => answerWith(ctx, endpoints.disable),

    async testEndpoint(ctx: AdminContext): Promise<void> {
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
    },
  };
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

export interface DeliveryDeps extends Stores {
  eventFeed: Pick<EventFeed, 'read'>;
}

const listQuery = z
  .strictObject({
    status: z.enum(DELIVERY_STATUSES).optional(),
    orderNo: z
      .string()
      .refine((text) => parseOrderNo(text) !== undefined, 'is no order number')
      .optional(),
    after: wholeNumber.default(0),
    limit: wholeNumber.pipe(z.number().min(1).max(MAX_DELIVERIES_PAGE)).default(MAX_DELIVERIES_PAGE),
  })
  .refine(({ status, orderNo }) => status === undefined || orderNo === undefined, {
    path: ['orderNo'],
    message: 'goes without status',
  });

const time = z.iso.datetime({ offset: true }).transform((text) => Date.parse(text));
const replayBody = z.union([
  z.strictObject({ eventId: z.string().min(1).max(128) }),
  z.strictObject({ orderNo: z.string().min(1).max(128) }),
  z.strictObject({ since: time, until: time }).refine(({ since, until }) => since < until, {
    path: ['until'],
    message: 'must be after since',
  }),
]);

export function createDeliveryRoutes(deps: DeliveryDeps) {
  const { endpoints, deliveries, eventFeed } = deps;
  const replayer = createReplayer({ ...deps, source: createEventSource(eventFeed) });

  function startReplay(name: string, body: z.infer<typeof replayBody>, actor: string) {
    if ('eventId' in body) return replayer.replayEvent(name, body.eventId, actor);
    if ('orderNo' in body) return replayer.replayOrder(name, body.orderNo, actor);
    return replayer.replayTime(name, { sinceMs: body.since, beforeMs: body.until }, actor);
  }

  return {
    async listDeliveries(ctx: AdminContext): Promise<void> {
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
    },

    async replayEvents(ctx: AdminContext): Promise<void> {
      const name = nameOf(ctx);
      const body = parseInput(replayBody, ctx.state.body);
      await known(ctx, (endpoint) => endpoints.read(endpoint));
      const outcome = await reach(() => startReplay(name, body, ctx.state.userId));
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
