/** The back office's calls about the feed of events, and who reads it. */

import { z } from 'zod';
import type { EventConsumer } from '../../events/consumers.sql.ts';
import { EVENT_TYPES, ORDER_EVENT_TYPES, ORDER_NEWS_TYPES } from '../../events/event.ts';
import { type FeedQuery, type FeedRead, readEvents } from '../../events/feed.ts';
import { saleIdSchema, userIdSchema } from '../../orders/content.ts';
import { reply } from '../http/answer.ts';
import type { CallContext } from '../http/entry.ts';
import { count, noBody, orderReply, shownOrderNo, time } from '../http/replies.ts';
import { wholeNumber } from '../http/request.ts';
import { adminCall, type AdminCalls, type BackOffice } from './call.ts';

/** Events in one answer: some 400 KB, built from as many orders by one query; 3 MB if all were full. */
const MAX_EVENTS_PAGE = 500;

/** A call that waits for events waits at most so long: below what proxies commonly cut off (30 s). */
const MAX_EVENTS_WAIT_SECONDS = 25;

/** Names of consumers are part of an address and of a metric: lower case, digits, single dots or dashes. */
export const EVENT_CONSUMER_PATTERN = /^(?=.{1,64}$)[a-z0-9]+(?:[-.][a-z0-9]+)*$/;

const sequence = z
  .int()
  .min(0)
  .meta({ description: 'The place in the feed.', examples: [48] });
const shownPosition = sequence.describe(
  'The sequence of the last event that the consumer has handled; 0: none.',
);

/** An order as of one version. */
const orderSnapshot = orderReply.omit({ closing: true, pollAfterMs: true }).extend({ userId: userIdSchema });

const common = {
  id: z
    .string()
    .min(1)
    .meta({
      description: 'The id of the event, the same at each delivery.',
      examples: ['demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG.1'],
    }),
  sequence,
  occurredAt: time.describe('When it happened.'),
};

export const eventReply = z
  .union([
    z.strictObject({
      ...common,
      type: z.enum([...ORDER_EVENT_TYPES, ...ORDER_NEWS_TYPES]).describe('What happened to the order.'),
      saleId: saleIdSchema,
      orderNo: shownOrderNo,
      version: z.int().min(1).describe('The version of the order.'),
      data: z
        .strictObject({ order: orderSnapshot.describe('The order as of this version.') })
        .describe('The order.'),
    }),
    // What became of a sale, or what waits for an operator, as it was recorded, perhaps by a newer version.
    z.strictObject({
      ...common,
      type: z
        .string()
        .regex(/^(?!order\.)[a-z_]+\.[a-z_]+$/)
        .describe('What happened.'),
      saleId: saleIdSchema.nullable().describe('The sale; null: the event is of no sale.'),
      data: z.record(z.string(), z.unknown()).describe('What it is about, by its type.'),
    }),
  ])
  .meta({ id: 'Event', description: 'An event.' });

export const eventsReply = z
  .strictObject({
    events: z.array(eventReply).describe('The events, by their sequence.'),
    next: sequence.describe('The `after` of the next call.'),
  })
  .meta({ id: 'EventPage', description: 'A page of events.' });
export type EventsReply = z.infer<typeof eventsReply>;

export const consumerReply = z
  .strictObject({
    name: z.string().meta({ description: 'The name of the consumer.', examples: ['fulfilment'] }),
    position: shownPosition,
    lag: count.describe('Events that follow its position.'),
    updatedAt: time.describe('When it last committed.'),
  })
  .meta({ id: 'Consumer', description: 'A consumer of the feed.' });

export const consumersReply = z
  .strictObject({
    consumers: z.array(consumerReply).describe('The consumers.'),
    last: sequence.describe('The sequence of the last event of all.'),
  })
  .meta({ id: 'ConsumerList', description: 'All consumers of the feed.' });

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
    saleId: saleIdSchema.optional().describe('This sale alone.'),
  })
  .refine(({ after, consumer }) => after === undefined || consumer === undefined, {
    path: ['after'],
    message: 'a consumer begins at its own position',
  });

const commitBody = z
  .strictObject({
    position: shownPosition,
    rewind: z.boolean().default(false).describe('The position may go back.'),
  })
  .meta({ examples: [{ position: 48 }] });

/** What the calls about one consumer have in common. */
const ofConsumer = {
  params: {
    schema: z.object({ name: z.string().regex(EVENT_CONSUMER_PATTERN) }),
    otherwise: 'consumer_not_found',
  },
  away: 'events_unavailable',
} as const;

/** Each call answers the same when it is repeated. */
export const eventCalls = {
  'GET /v1/admin/events': adminCall({
    id: 'readEvents',
    does: 'The events that follow a position, and waits for the next',
    scope: 'events:read',
    lane: 'feeds',
    query,
    replies: { 200: eventsReply },
    away: 'events_unavailable',
    refuses: { ahead: 'position_ahead' },
    async answer(office, { query: { after = 0, consumer, limit, wait, type, saleId }, ctx }) {
      const ended = endOfWait(ctx, wait);
      try {
        const committed = consumer === undefined ? undefined : await office.eventConsumers.read(consumer);
        const filter = { types: type && new Set(type), saleId };
        const from = { after: committed?.position ?? after, limit, filter };
        const page = await readInTime(office, from, ended.signal);
        if (page.kind === 'ahead') return page;
        return reply({ events: page.events, next: page.next });
      } finally {
        ended.clear();
      }
    },
  }),
  'GET /v1/admin/events/consumers': adminCall({
    id: 'listConsumers',
    does: 'All consumers of the feed, and the last event of all',
    scope: 'events:read',
    replies: { 200: consumersReply },
    away: 'events_unavailable',
    refuses: {},
    async answer({ eventConsumers }) {
      const { consumers, last } = await eventConsumers.list();
      return reply({ consumers: consumers.map(viewConsumer), last });
    },
  }),
  'GET /v1/admin/events/consumers/:name': adminCall({
    id: 'getConsumer',
    does: 'How far a consumer of the feed has come',
    scope: 'events:read',
    ...ofConsumer,
    replies: { 200: consumerReply },
    refuses: { unknown: 'consumer_not_found' },
    async answer({ eventConsumers }, { params: { name } }) {
      const consumer = await eventConsumers.read(name);
      return consumer ? reply(viewConsumer(consumer)) : { kind: 'unknown' };
    },
  }),
  'PUT /v1/admin/events/consumers/:name': adminCall({
    id: 'commitConsumer',
    does: 'Commits how far a consumer has done with the feed',
    scope: 'events:write',
    ...ofConsumer,
    params: { schema: ofConsumer.params.schema },
    body: { schema: commitBody },
    replies: { 200: consumerReply },
    refuses: { ahead: 'position_ahead', behind: 'position_behind', 'too-many': 'too_many_consumers' },
    async answer({ eventConsumers }, { params: { name }, body: { position, rewind } }) {
      const outcome = await eventConsumers.commit(name, position, rewind);
      return outcome.kind === 'committed' ? reply(viewConsumer(outcome.consumer)) : outcome;
    },
  }),
  'DELETE /v1/admin/events/consumers/:name': adminCall({
    id: 'removeConsumer',
    does: 'Forgets a consumer; also when there is none',
    scope: 'events:write',
    params: { schema: z.object({ name: z.string() }) },
    replies: { 204: noBody },
    away: 'events_unavailable',
    refuses: {},
    async answer({ eventConsumers }, { params: { name } }) {
      await eventConsumers.remove(name);
      return reply('', 204);
    },
  }),
} satisfies AdminCalls;

/** The first page with an event; an empty one when none comes in time. */
async function readInTime(office: BackOffice, asked: FeedQuery, signal: AbortSignal): Promise<FeedRead> {
  let page = await readEvents(office, asked);
  // Where the end is not reached yet, the caller goes on from there.
  while (
    page.kind === 'page' &&
    page.events.length === 0 &&
    page.next >= page.last &&
    !signal.aborted &&
    !office.eventTicker.isStopping()
  ) {
    await office.eventTicker.wait(page.next, signal);
    if (!office.eventTicker.isStopping()) page = await readEvents(office, { ...asked, after: page.next });
  }
  return page;
}

/** The wait ends after so many seconds, and when the caller has gone. */
function endOfWait({ res }: CallContext, seconds: number): { signal: AbortSignal; clear: () => void } {
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

function viewConsumer({ name, position, lag, updatedAt }: EventConsumer): z.infer<typeof consumerReply> {
  return { name, position, lag, updatedAt: updatedAt.toISOString() };
}
