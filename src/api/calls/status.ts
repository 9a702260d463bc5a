/** What an operator is shown, for a program: `ops status` over HTTP. */

import { z } from 'zod';
import { findWrong } from '../../status/findings.ts';
import { stateOf } from '../../status/status.ts';
import { reply } from '../http/answer.ts';
import { count, time } from '../http/replies.ts';
import { adminCall, type AdminCalls, type BackOffice } from './call.ts';

const waiting = z.strictObject({
  waiting: count,
  /** Of the one that waits the longest; null: nothing waits. */
  oldestMs: count.nullable(),
});

/** A part is null while what has it does not answer. */
const statusReply = z.strictObject({
  /** What to act upon, the worst first. */
  wrong: z.array(z.strictObject({ what: z.string(), remedy: z.string() })),
  workers: z
    .array(
      z.strictObject({
        workerId: z.string(),
        host: z.string(),
        pid: z.int(),
        /** Empty: it has none. */
        build: z.string(),
        state: z.enum(['alive', 'hanging', 'silent']),
        silentMs: count,
        /** Loops that stand still. */
        hanging: z.array(z.string()),
      }),
    )
    .nullable(),
  /** Accepted and not stored, by sale; the longest first. */
  outboxes: z.array(z.strictObject({ saleId: z.string(), waiting: count, oldestMs: count })).nullable(),
  engineSlotsTaken: count.nullable(),
  /** Stored, and their workflow has not begun. */
  ordersNotBegun: waiting.nullable(),
  /** Recorded, and not with their order. */
  paymentsWaiting: waiting.nullable(),
  refundsDue: count.nullable(),
  parked: z.array(z.strictObject({ kind: z.string(), ...waiting.shape })).nullable(),
  /** When every sale had been compared whole between the stores; null also: it never was. */
  comparedAt: time.nullable(),
  differences: count.nullable(),
  eventsWithoutNumber: count.nullable(),
  consumers: z.array(z.strictObject({ name: z.string(), lag: count })).nullable(),
  endpoints: z
    .array(z.strictObject({ name: z.string(), isDown: z.boolean(), waiting: count, behind: count }))
    .nullable(),
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
