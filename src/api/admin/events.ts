/** The back office's calls about the feed of events, and who reads it. */

import { z } from 'zod';
import { EVENT_TYPES } from '../../domain/event.ts';
import {
  EVENT_CONSUMER_PATTERN,
  MAX_EVENTS_PAGE,
  MAX_EVENTS_WAIT_SECONDS,
  SALE_ID_PATTERN,
} from '../../domain/limits.ts';
import type { EventFeed, FeedPage, FeedQuery, EventTicker } from '../../events/event-feed.ts';
import type { EventConsumer } from '../../stores/mysql/events/event-consumers.ts';
import type { Stores } from '../../stores/open.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import { wholeNumber } from '../http/query.ts';
import type { EventsReply, ConsumerReply, ConsumersReply } from '../http/replies.ts';
import type { AdminContext } from './calls.ts';

// The feed of events: reads it from a position on, and waits for what comes.

export interface EventsDeps extends Stores {
  eventFeed: Pick<EventFeed, 'read'>;
  eventTicker: Pick<EventTicker, 'wait' | 'isStopping'>;
}

const DEFAULT_PAGE = 100;

const query = z
  .strictObject({
    after: wholeNumber.optional(),
    consumer: z.string().regex(EVENT_CONSUMER_PATTERN).optional(),
    limit: wholeNumber.pipe(z.int().min(1).max(MAX_EVENTS_PAGE)).default(DEFAULT_PAGE),
    wait: wholeNumber.pipe(z.int().max(MAX_EVENTS_WAIT_SECONDS)).default(0),
    type: z
      .string()
      .transform((list) => list.split(','))
      .pipe(z.array(z.enum(EVENT_TYPES)))
      .optional(),
    saleId: z.string().regex(SALE_ID_PATTERN).optional(),
  })
  .refine(({ after, consumer }) => after === undefined || consumer === undefined, {
    path: ['after'],
    message: 'a consumer begins at its own position',
  });

export function createGetEvents({ eventFeed, eventTicker, eventConsumers }: EventsDeps) {
  async function read(asked: FeedQuery): Promise<FeedPage> {
    const page = await eventFeed.read(asked);
    if (page.kind === 'page') return page;
    const extra = { last: page.last };
    throw new Problem('position_ahead', 'There is no such event yet.', { extra });
  }

  /** The first page with an event; an empty one when none comes in time. */
  async function readInTime(asked: FeedQuery, signal: AbortSignal): Promise<FeedPage> {
    let page = await read(asked);
    // Where the end is not reached yet, the caller goes on from there.
    while (page.events.length === 0 && page.next >= page.last && !signal.aborted) {
      await eventTicker.wait(page.next, signal);
      if (eventTicker.isStopping()) return page;
      page = await read({ ...asked, after: page.next });
    }
    return page;
  }

  return async function getEvents(ctx: AdminContext): Promise<void> {
    const { after = 0, consumer, limit, wait, type, saleId } = parseInput(query, ctx.query);
    const ended = endOfWait(ctx, wait);
    ctx.set('Cache-Control', 'no-store');
    try {
      const committed = consumer === undefined ? undefined : await eventConsumers.read(consumer);
      const { events, next } = await readInTime(
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
  };
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

// Named consumers of the feed: each commits how far it has come, and reads on from there.

const commitBody = z.strictObject({ position: z.int().min(0), rewind: z.boolean().default(false) });

/** Each call answers the same when it is repeated. */
export function createEventConsumerRoutes({ eventConsumers }: Stores) {
  return {
    async listConsumers(ctx: AdminContext): Promise<void> {
      const { consumers, last } = await ask(() => eventConsumers.list());
      ctx.body = { consumers: consumers.map(viewConsumer), last } satisfies ConsumersReply;
    },

    async getConsumer(ctx: AdminContext): Promise<void> {
      const name = ctx.params['name'] ?? '';
      const consumer = EVENT_CONSUMER_PATTERN.test(name)
        ? await ask(() => eventConsumers.read(name))
        : undefined;
      if (!consumer) throw new Problem('consumer_not_found', 'There is no consumer of that name.');
      ctx.body = viewConsumer(consumer);
    },

    async putConsumer(ctx: AdminContext): Promise<void> {
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
    },

    async deleteConsumer(ctx: AdminContext): Promise<void> {
      const name = ctx.params['name'] ?? '';
      if (EVENT_CONSUMER_PATTERN.test(name)) await ask(() => eventConsumers.remove(name));
      ctx.status = 204;
    },
  };
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
