/** What an operator is shown, for a program: `ops status` over HTTP. */

import { z } from 'zod';
import { saleIdSchema } from '../../orders/content.ts';
import { findWrong } from '../../status/findings.ts';
import { stateOf } from '../../status/status.ts';
import { reply } from '../http/answer.ts';
import { count, time } from '../http/replies.ts';
import { adminCall, type AdminCalls, type BackOffice } from './call.ts';

const waiting = z.strictObject({
  waiting: count.describe('How many wait.'),
  oldestMs: count.nullable().meta({
    description: 'Milliseconds for which the oldest has waited; null: nothing waits.',
    examples: [null],
  }),
});
const shownName = z.string().meta({ description: 'The name.', examples: ['office'] });

const statusReply = z
  .strictObject({
    wrong: z
      .array(
        z.strictObject({
          what: z.string().meta({
            description: 'What is wrong.',
            examples: ['No worker lives: accepted orders wait, none is confirmed, and none ends.'],
          }),
          remedy: z.string().meta({ description: 'What to do.', examples: ['Start one.'] }),
        }),
      )
      .describe('What to act upon, the worst first.'),
    workers: z
      .array(
        z.strictObject({
          workerId: z
            .string()
            .meta({ description: 'The id of the worker.', examples: ['01KAJ5T0ZV6Y3QH8M2C4D7E9FH'] }),
          host: z.string().meta({ description: 'The host of the worker.', examples: ['worker-1'] }),
          pid: z.int().meta({ description: 'The process id of the worker.', examples: [4242] }),
          build: z
            .string()
            .meta({ description: 'The build of the worker; empty: it has none.', examples: ['2026-11-21'] }),
          state: z
            .enum(['alive', 'hanging', 'silent'])
            .describe('`hanging`: a loop of the worker stands still. `silent`: the worker reports nothing.'),
          silentMs: count.describe('Milliseconds since the last report of the worker.'),
          hanging: z.array(z.string()).meta({ description: 'The loops that stand still.', examples: [[]] }),
        }),
      )
      .nullable()
      .describe('The workers.'),
    outboxes: z
      .array(
        z.strictObject({
          saleId: saleIdSchema,
          waiting: count.describe('Orders that wait.'),
          oldestMs: count.describe('Milliseconds for which the oldest has waited.'),
        }),
      )
      .nullable()
      .describe('Orders that are accepted and not stored, by sale, the longest outbox first.'),
    engineSlotsTaken: count.nullable().describe('Orders and signals in flight in Temporal.'),
    ordersNotBegun: waiting.nullable().describe('Orders that are stored, and whose workflow has not begun.'),
    paymentsWaiting: waiting.nullable().describe('Payments that are recorded, and not with their order.'),
    refundsDue: count.nullable().describe('Refunds that are due.'),
    parked: z
      .array(
        z.strictObject({
          kind: z.string().meta({ description: 'What is parked.', examples: ['payment'] }),
          ...waiting.shape,
        }),
      )
      .nullable()
      .describe('Parked work, by kind.'),
    comparedAt: time
      .nullable()
      .describe('When every sale had been compared between the stores; null also: it never was.'),
    differences: count.nullable().describe('Differences that the comparison found.'),
    eventsWithoutNumber: count.nullable().describe('Events that are recorded and cannot be read yet.'),
    consumers: z
      .array(z.strictObject({ name: shownName, lag: count.describe('Events that follow its position.') }))
      .nullable()
      .describe('The consumers of the feed.'),
    endpoints: z
      .array(
        z.strictObject({
          name: shownName,
          isDown: z.boolean().describe('Several attempts in a row failed.'),
          waiting: count.describe('Deliveries that wait.'),
          behind: count.describe('Events of the feed that were not read for it yet.'),
        }),
      )
      .nullable()
      .describe('The endpoints of push.'),
  })
  .meta({
    id: 'Status',
    description: 'What is wrong and what waits. A part is null while its store does not answer.',
  });

export const statusCalls = {
  'GET /v1/admin/status': adminCall({
    id: 'getStatus',
    does: 'What is wrong, what waits, and which workers live',
    scope: 'status:read',
    replies: { 200: statusReply },
    refuses: {},
    answer: async ({ statusBoard }) => reply(viewStatus(statusBoard)),
  }),
} satisfies AdminCalls;

/** From the memory of this process, so that no store that is away delays it. */
function viewStatus(statusBoard: BackOffice['statusBoard']): z.infer<typeof statusReply> {
  const status = statusBoard.all();
  const { workers, outboxes, slots, backlog, parked, drift, events, endpoints } = status;
  return {
    wrong: findWrong(status, undefined),
    workers:
      workers?.map((worker) => ({
        workerId: worker.workerId,
        host: worker.host,
        pid: worker.pid,
        build: worker.build,
        state: stateOf(worker),
        silentMs: worker.silentMs,
        hanging: worker.hanging,
      })) ?? null,
    outboxes:
      outboxes?.map(({ saleId, waiting: orders, oldestMs }) => ({ saleId, waiting: orders, oldestMs })) ??
      null,
    engineSlotsTaken: slots ?? null,
    ordersNotBegun: backlog?.notBegun ?? null,
    paymentsWaiting: backlog?.payments ?? null,
    refundsDue: backlog?.refunds ?? null,
    parked: parked ?? null,
    comparedAt: drift ? new Date(drift.lookedAtMs).toISOString() : null,
    differences: drift?.entries.length ?? null,
    eventsWithoutNumber: events?.waiting ?? null,
    consumers: events?.consumers.map(({ name, lag }) => ({ name, lag })) ?? null,
    endpoints:
      endpoints?.map(({ name, health }) => ({
        name,
        isDown: health.isDown,
        waiting: health.waiting,
        behind: health.behind,
      })) ?? null,
  };
}
