/** The feed of events: reads it from a position on, and waits for what comes. */

import { z } from 'zod';
import { EVENT_TYPES } from '../../domain/event.ts';
import {
  EVENT_CONSUMER_PATTERN,
  MAX_EVENTS_PAGE,
  MAX_EVENTS_WAIT_SECONDS,
  SALE_ID_PATTERN,
} from '../../domain/limits.ts';
import type { EventFeed, FeedPage, FeedQuery } from '../../events/event-feed.ts';
import type { EventTicker } from '../../events/event-ticker.ts';
import type { Stores } from '../../stores/open.ts';
import type { EventsReply } from '../http/event-replies.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import { wholeNumber } from '../http/query.ts';
import type { AdminContext } from './routes.ts';

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
