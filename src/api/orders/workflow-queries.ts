/**
 * Queries of the workflows of orders. Any caller can cause one, and each keeps Temporal and a worker busy: so
 * a few are under way at once, and no caller waits for more.
 */

import type { Logger } from 'pino';
import type { OrderState } from '../../domain/order.ts';
import type { OrderEngine } from '../../engine/order-engine.ts';
import { createBoundedLog } from '../http/bounded-log.ts';
import type { Lane } from '../http/load-shed.ts';

/** A query needs a live worker; its caller waits no longer than this. */
const QUERY_TIMEOUT_MS = 2_000;

/** no-answer: no worker answers in time, Temporal is away, or too many ask already. Never throws. */
export type QueryWorkflow = (orderNo: string) => Promise<OrderState | 'no-such-workflow' | 'no-answer'>;

/** @param lane bounds them */
export function createWorkflowQueries(
  engine: Pick<OrderEngine, 'queryStatus'>,
  lane: Lane,
  log: Logger,
): QueryWorkflow {
  let latest = '';
  const report = createBoundedLog((queries) =>
    log.warn({ queries, reason: latest }, 'workflows did not answer'),
  );

  return async (orderNo) => {
    if (lane.isFull()) {
      lane.shed();
      return 'no-answer';
    }
    let answer: Awaited<ReturnType<QueryWorkflow>> = 'no-answer';
    await lane.enter({ res: { closed: false } }, async () => {
      try {
        answer = (await engine.queryStatus(orderNo, QUERY_TIMEOUT_MS)) ?? 'no-such-workflow';
      } catch (error) {
        latest = error instanceof Error ? error.message : 'unknown';
        report();
      }
    });
    return answer;
  };
}
