/** The back office's calls about the feed of events, and who reads it. */

import { z } from 'zod';
import type { EventConsumer } from '../../events/consumers.sql.ts';
import { EVENT_TYPES, ORDER_EVENT_TYPES, ORDER_NEWS_TYPES } from '../../events/event.ts';
import { type FeedPage, type FeedQuery, readEvents } from '../../events/feed.ts';
import { SALE_ID_PATTERN } from '../../limits.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import { orderReply, time, noBody } from '../http/replies.ts';
import { wholeNumber } from '../http/request.ts';
import type { AdminCalls, AdminContext, BackOffice } from './call.ts';

/** Events in one answer: some 400 KB, built from as many orders by one query; 3 MB if all were full. */
const MAX_EVENTS_PAGE = 500;

/** A call that waits for events waits at most so long: below what proxies commonly cut off (30 s). */
const MAX_EVENTS_WAIT_SECONDS = 25;

/** Names of consumers are part of an address and of a metric: lower case, digits, single dots or dashes. */
export const EVENT_CONSUMER_PATTERN = /^(?=.{1,64}$)[a-z0-9]+(?:[-.][a-z0-9]+)*$/;

const sequence = z.int().min(0);

/** An order as of one version. */
const orderSnapshot = orderReply.omit({ closing: true, pollAfterMs: true }).extend({ userId: z.string() });

const common = { id: z.string().min(1), sequence, occurredAt: time };

export const eventReply = z.union([
  z.strictObject({
    ...common,
    type: z.enum([...ORDER_EVENT_TYPES, ...ORDER_NEWS_TYPES]),
    saleId: z.string(),
    orderNo: z.string(),
    version: z.int().min(1),
    data: z.strictObject({ order: orderSnapshot }),
  }),
  // What became of a sale, or what waits for an operator, as it was recorded, perhaps by a newer version.
  z.strictObject({
    ...common,
    type: z.string().regex(/^(?!order\.)[a-z_]+\.[a-z_]+$/),
    saleId: z.string().nullable(),
    data: z.record(z.string(), z.unknown()),
  }),
]);

export const eventsReply = z.strictObject({
  events: z.array(eventReply),
  /** The `after` of the next call. */
  next: sequence,
});
export type EventsReply = z.infer<typeof eventsReply>;

export const consumerReply = z.strictObject({
  name: z.string(),
  /** The sequence of the last event that it has done with; 0: none. */
  position: sequence,
  /** Events that follow. */
  lag: z.int().min(0),
  updatedAt: time,
});
type ConsumerReply = z.infer<typeof consumerReply>;

export const consumersReply = z.strictObject({
  consumers: z.array(consumerReply),
  /** The sequence of the last event of all. */
  last: sequence,
});
type ConsumersReply = z.infer<typeof consumersReply>;

const DEFAULT_PAGE = 100;

const query = z
  .strictObject({
    after: wholeNumber
      .optional()
      .describe('The events that follow this sequence; unless given, from the beginning.'),
    consumer: z
      .string()
      .regex(EVENT_CONSUMER_PATTERN)
      .optional()
      .describe(
        'Instead of `after`: those that follow what this consumer has committed; of a name without commits, all.',
      ),
    limit: wholeNumber
      .pipe(z.int().min(1).max(MAX_EVENTS_PAGE))
      .default(DEFAULT_PAGE)
      .describe('At most so many. Sales with many SKUs make a page shorter.'),
    wait: wholeNumber
      .pipe(z.int().max(MAX_EVENTS_WAIT_SECONDS))
      .default(0)
      .describe('Where there is none: for so many seconds, until there is one.'),
    type: z
      .string()
      .transform((list) => list.split(','))
      .pipe(z.array(z.enum(EVENT_TYPES)))
      .optional()
      .describe('These types alone, with commas between.'),
    saleId: z.string().regex(SALE_ID_PATTERN).optional().describe('This sale alone.'),
  })
  .refine(({ after, consumer }) => after === undefined || consumer === undefined, {
    path: ['after'],
    message: 'a consumer begins at its own position',
  });

const commitBody = z.strictObject({ position: z.int().min(0), rewind: z.boolean().default(false) });

export const eventCalls = {
  'GET /v1/admin/events': {
    id: 'readEvents',
    does: 'The events that follow a position, and waits for the next',
    scope: 'events:read',
    lane: 'feeds',
    query,
    replies: { 200: eventsReply },
    refuses: ['position_ahead', 'events_unavailable'],
    handle: getEvents,
  },
  'GET /v1/admin/events/consumers': {
    id: 'listConsumers',
    does: 'All consumers of the feed, and the last event of all',
    scope: 'events:read',
    replies: { 200: consumersReply },
    refuses: ['events_unavailable'],
    handle: listConsumers,
  },
  'GET /v1/admin/events/consumers/:name': {
    id: 'getConsumer',
    does: 'How far a consumer of the feed has come',
    scope: 'events:read',
    replies: { 200: consumerReply },
    refuses: ['consumer_not_found', 'events_unavailable'],
    handle: getConsumer,
  },
  'PUT /v1/admin/events/consumers/:name': {
    id: 'commitConsumer',
    does: 'Commits how far a consumer has done with the feed',
    scope: 'events:write',
    body: { schema: commitBody },
    replies: { 200: consumerReply },
    refuses: ['position_ahead', 'position_behind', 'too_many_consumers', 'events_unavailable'],
    handle: putConsumer,
  },
  'DELETE /v1/admin/events/consumers/:name': {
    id: 'removeConsumer',
    does: 'Forgets a consumer; also when there is none',
    scope: 'events:write',
    replies: { 204: noBody },
    refuses: ['events_unavailable'],
    handle: deleteConsumer,
  },
} satisfies AdminCalls;

// The feed of events: reads it from a position on, and waits for what comes.

async function getEvents(office: BackOffice, ctx: AdminContext): Promise<void> {
  const { after = 0, consumer, limit, wait, type, saleId } = parseInput(query, ctx.query);
  const ended = endOfWait(ctx, wait);
  ctx.set('Cache-Control', 'no-store');
  try {
    const committed = consumer === undefined ? undefined : await office.eventConsumers.read(consumer);
    const { events, next } = await readInTime(
      office,
      {
        after: committed?.position ?? after,
        limit,
        filter: { types: type && new Set(type), saleId },
      },
      ended.signal,
    );
    ctx.status = 200;
    ctx.body = { events, next } satisfies EventsReply;
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw unavailable('events_unavailable', 'The events cannot be read right now.', error);
  } finally {
    ended.clear();
  }
}

async function read(office: BackOffice, asked: FeedQuery): Promise<FeedPage> {
  const page = await readEvents(office, asked);
  if (page.kind === 'page') return page;
  const extra = { last: page.last };
  throw new Problem('position_ahead', 'There is no such event yet.', { extra });
}

/** The first page with an event; an empty one when none comes in time. */
async function readInTime(office: BackOffice, asked: FeedQuery, signal: AbortSignal): Promise<FeedPage> {
  let page = await read(office, asked);
  // Where the end is not reached yet, the caller goes on from there.
  while (page.events.length === 0 && page.next >= page.last && !signal.aborted) {
    await office.eventTicker.wait(page.next, signal);
    if (office.eventTicker.isStopping()) return page;
    page = await read(office, { ...asked, after: page.next });
  }
  return page;
}

/** The wait ends after so many seconds, and when the caller has gone. */
function endOfWait({ res }: AdminContext, seconds: number): { signal: AbortSignal; clear: () => void } {
  const ended = new AbortController();
  const end = (): void => ended.abort();
  if (seconds === 0) end();
  const timer = setTimeout(end, seconds * 1_000);
  res.once('close', end);
  return {
    signal: ended.signal,
    clear() {
      clearTimeout(timer);
      res.off('close', end);
    },
  };
}

// Named consumers of the feed: each commits how far it has come, and reads on from there. Each call answers
// the same when it is repeated.

async function listConsumers({ eventConsumers }: BackOffice, ctx: AdminContext): Promise<void> {
  const { consumers, last } = await ask(() => eventConsumers.list());
  ctx.body = { consumers: consumers.map(viewConsumer), last } satisfies ConsumersReply;
}

async function getConsumer({ eventConsumers }: BackOffice, ctx: AdminContext): Promise<void> {
  const name = ctx.params['name'] ?? '';
  const consumer = EVENT_CONSUMER_PATTERN.test(name) ? await ask(() => eventConsumers.read(name)) : undefined;
  if (!consumer) throw new Problem('consumer_not_found', 'There is no consumer of that name.');
  ctx.body = viewConsumer(consumer);
}

async function putConsumer({ eventConsumers }: BackOffice, ctx: AdminContext): Promise<void> {
  const name = parseInput(z.object({ name: z.string().regex(EVENT_CONSUMER_PATTERN) }), ctx.params).name;
  const { position, rewind } = parseInput(commitBody, ctx.state.body);
  const outcome = await ask(() => eventConsumers.commit(name, position, rewind));
  switch (outcome.kind) {
    case 'committed':
      ctx.body = viewConsumer(outcome.consumer);
      return;
    case 'behind':
      throw new Problem('position_behind', 'It has come further; "rewind": true sets it back.', {
        extra: { position: outcome.position },
      });
    case 'ahead':
      throw new Problem('position_ahead', 'There is no such event yet.', {
        extra: { last: outcome.last },
      });
    case 'too-many':
      throw new Problem('too_many_consumers', 'There are as many consumers as may be; remove one.');
    default:
      outcome satisfies never;
  }
}

async function deleteConsumer({ eventConsumers }: BackOffice, ctx: AdminContext): Promise<void> {
  const name = ctx.params['name'] ?? '';
  if (EVENT_CONSUMER_PATTERN.test(name)) await ask(() => eventConsumers.remove(name));
  ctx.status = 204;
}

function viewConsumer({ name, position, lag, updatedAt }: EventConsumer): ConsumerReply {
  return { name, position, lag, updatedAt: updatedAt.toISOString() };
}

async function ask<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw unavailable('events_unavailable', 'Nothing is known of the consumers right now.', error);
  }
}
