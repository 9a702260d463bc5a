/** Deliveries to an endpoint: what became of them, and having events delivered once more. */

import { z } from 'zod';
import { MAX_DELIVERIES_PAGE } from '../../domain/limits.ts';
import { parseOrderNo } from '../../domain/order.ts';
import { DELIVERY_STATUSES } from '../../domain/push.ts';
import type { EventFeed } from '../../events/event-feed.ts';
import { createEventSource } from '../../push/event-source.ts';
import { createReplayer } from '../../push/replayer.ts';
import type { Delivery, DeliveryQuery } from '../../stores/mysql/push/delivery-list.ts';
import type { Stores } from '../../stores/open.ts';
import type { DeliveriesReply, ReplayReply } from '../http/endpoint-replies.ts';
import { parseInput, Problem } from '../http/problem.ts';
import { wholeNumber } from '../http/query.ts';
import { endpointNotFound, known, nameOf, reach } from './endpoints.ts';
import type { AdminContext } from './routes.ts';

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
  const { endpoints, deliveryList, eventFeed } = deps;
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
      const found = await reach(() => deliveryList.list(endpointId, query, { after, limit: limit + 1 }));
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
