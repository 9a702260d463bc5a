/**
 * Starts the load generator in a process of its own, so that
 * it shares neither thread nor heap with the measurement.
 */

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

/** One stretch of load: purchases of one unit each, or polls of orders. */
export const loadSchema = z.object({
  host: z.string(),
  port: z.int(),
  saleId: z.string(),
  tokens: z.array(z.string()),
  seconds: z.number(),
  /** Open before the first purchase. */
  connections: z.int(),
  /** With a rate more are opened while none is free. Absent: as many as the generator can have. */
  connectionsMax: z.int().optional(),
  /**
   * Purchases a second, however they are answered; null:
   * each connection asks again as soon as it is answered.
   */
  rate: z.number().nullable(),
  /** Their status is asked for in turn, by the shopper of each; absent: purchases. */
  polled: z.array(z.object({ orderNo: z.string(), token: z.string() })).optional(),
});
export type Load = z.infer<typeof loadSchema>;

const outcomeSchema = z.object({
  /** `accepted`, `polled`, a refusal's status and code, or how the connection failed. */
  name: z.string(),
  count: z.int(),
  p50Ms: z.number(),
  p99Ms: z.number(),
  maxMs: z.number(),
  within50Ms: z.int(),
  /** The same from the moment of sending, without what the generator itself was late. */
  sentP99Ms: z.number(),
  sentWithin50Ms: z.int(),
  withRetryAfter: z.int(),
});
export type Outcome = z.infer<typeof outcomeSchema>;

const reportSchema = z.object({
  outcomes: z.array(outcomeSchema),
  /** Sent, and no answer within ten seconds of the end. */
  unanswered: z.int(),
  /** orderNos */
  accepted: z.array(z.string()),
  /** From the start of the load to the first accepted order. */
  firstAcceptedMs: z.number(),
  /** The 99th percentile of how much later than planned the generator itself sent. */
  sentLateP99Ms: z.number(),
  seconds: z.number(),
});
export type LoadReport = z.infer<typeof reportSchema>;

export interface LoadGenerator {
  run(load: Load): Promise<LoadReport>;
  stop(): Promise<void>;
}

export function startLoadGenerator(): LoadGenerator {
  const child = fork(fileURLToPath(new URL('load-generator.js', import.meta.url)));
  const ended = once(child, 'exit');
  const failed = ended.then(([code]) => {
    throw new Error(`the load generator ended with ${code}`);
  });
  // Its end is a failure only while a caller waits for a report.
  failed.catch(() => {});
  return {
    async run(load) {
      const answered = once(child, 'message');
      child.send(load);
      const [report]: unknown[] = await Promise.race([answered, failed]);
      return reportSchema.parse(report);
    },
    async stop() {
      if (child.connected) child.disconnect();
      await ended;
    },
  };
}
