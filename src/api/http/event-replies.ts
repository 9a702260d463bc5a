/** The answers about the feed of events. */

import { z } from 'zod';
import { ORDER_EVENT_TYPES } from '../../domain/event.ts';
import { orderReply, time } from './replies.ts';

const sequence = z.int().min(0);

/** An order as of one version. */
const orderSnapshot = orderReply.omit({ closing: true, pollAfterMs: true }).extend({ userId: z.string() });

const common = { id: z.string().min(1), sequence, occurredAt: time };

const eventReply = z.union([
  z.strictObject({
    ...common,
    type: z.enum(ORDER_EVENT_TYPES),
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
export type ConsumerReply = z.infer<typeof consumerReply>;

export const consumersReply = z.strictObject({
  consumers: z.array(consumerReply),
  /** The sequence of the last event of all. */
  last: sequence,
});
export type ConsumersReply = z.infer<typeof consumersReply>;
