/** The answers about endpoints of push. */

import { z } from 'zod';
import { count, time } from './replies.ts';
import { EVENT_TYPES } from '../../domain/event.ts';
import { DELIVERY_STATUSES } from '../../domain/push.ts';


export const endpointReply = z.strictObject({
  name: z.string(),
  url: z.url(),
  /** Null: all. */
  types: z.array(z.enum(EVENT_TYPES)).nullable(),
  /** Null: of every sale. */
  saleId: z.string().nullable(),
  description: z.string(),
  /** disabled: nothing is sent, and its place in the feed waits. */
  state: z.enum(['active', 'disabled']),
  /** gone: it answered 410. */
  disabledFor: z.enum(['operator', 'gone']).nullable(),
  createdAt: time,
  /** Until then the secret before the current one signs too. */
  rotatingUntil: time.nullable(),
  /** Events of a time are being delivered once more. */
  replaying: z.boolean(),
  health: z.strictObject({
    /** failing: its last attempt failed. down: several did, so that one delivery at a time is tried. */
    state: z.enum(['up', 'failing', 'down']),
    failures: count,
    failingSince: time.nullable(),
    lastSuccessAt: time.nullable(),
    lastError: z.string().nullable(),
    waiting: count,
    /** Since then the oldest delivery waits. */
    waitingSince: time.nullable(),
    /** Events of the feed that are yet to be looked at for it. */
    behind: count,
  }),
});
export type EndpointReply = z.infer<typeof endpointReply>;

/** Shown once: it cannot be asked for later. */
const secret = z.string().startsWith('whsec_');

export const createdEndpointReply = endpointReply.extend({ secret });
export type CreatedEndpointReply = z.infer<typeof createdEndpointReply>;

export const endpointListReply = z.strictObject({ endpoints: z.array(endpointReply) });
export type EndpointListReply = z.infer<typeof endpointListReply>;

export const testReply = z.strictObject({ eventId: z.string() });
export type TestReply = z.infer<typeof testReply>;

/** events: how many are delivered once more; null: those of a time, which are not counted yet. */
export const replayReply = z.strictObject({ events: count.nullable() });
export type ReplayReply = z.infer<typeof replayReply>;

export const deliveriesReply = z.strictObject({
  deliveries: z.array(
    z.strictObject({
      id: z.int().min(1),
      eventId: z.string(),
      /** Null: a test. */
      sequence: z.int().min(1).nullable(),
      status: z.enum(DELIVERY_STATUSES),
      attempts: count,
      /** Null: it has ended, or an earlier one of its order comes first. */
      dueAt: time.nullable(),
      lastError: z.string().nullable(),
      createdAt: time,
      endedAt: time.nullable(),
    }),
  ),
  /** Where the next page begins; null: this was the last. */
  next: z.int().nullable(),
});
export type DeliveriesReply = z.infer<typeof deliveriesReply>;
