/** The answers about the feed of events. */

import { z } from 'zod';
import { ORDER_EVENT_TYPES, SHOP_EVENT_TYPES } from '../../domain/event.ts';
import { orderStateSchema } from '../../domain/order-state-schema.ts';

const time = z.iso.datetime();
const amount = z.int().min(0);
const sequence = z.int().min(0);

/** An order as of one version. */
const orderSnapshot = z.strictObject({
  orderNo: z.string(),
  saleId: z.string(),
  userId: z.string(),
  ...orderStateSchema.shape,
  /** Minor units of its own payment that went back. */
  refunded: amount,
  items: z.array(z.strictObject({ sku: z.string(), quantity: z.int().min(1), unitPrice: amount })),
  charges: z.array(z.strictObject({ code: z.string(), name: z.string(), amount: z.int() })),
  total: amount,
  currency: z.string().length(3),
  reference: z.string().nullable(),
  metadata: z.record(z.string(), z.string()),
  reservedAt: time,
  deadline: time,
});

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
  // What became of a sale, or what waits for an operator, as it was recorded.
  z.strictObject({
    ...common,
    type: z.enum(SHOP_EVENT_TYPES),
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
