/** Named consumers of the feed: each commits how far it has come, and reads on from there. */

import { z } from 'zod';
import { EVENT_CONSUMER_PATTERN } from '../../domain/limits.ts';
import type { EventConsumer } from '../../stores/mysql/events/event-consumers.ts';
import type { Stores } from '../../stores/open.ts';
import type { ConsumerReply, ConsumersReply } from '../http/event-replies.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import type { AdminContext } from './routes.ts';

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
