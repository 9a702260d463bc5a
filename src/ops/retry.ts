/** Has parked work tried again: what MySQL makes due, and what Redis or Temporal have to do besides. */

import { parseOrderNo } from '../domain/order.ts';
import { createWorkflowRuns } from '../engine/workflow-runs.ts';
import type { ParkedEntry } from '../stores/mysql/ops/parked-work.ts';
import type { Decision } from '../stores/mysql/rows/audit-log.ts';
import { putIntoOutbox } from '../stores/redis/outbox.ts';
import { createReservations } from '../stores/redis/reservations.ts';
import { refundWorkflowId } from '../workflows/contract.ts';
import { OpsError } from './errors.ts';
import { messageOf, type Parts } from './parts.ts';

/** The command takes no orders, so their pace does not matter. */
const NO_ORDERS = { storesPerSecond: 1 };

/** What became of the retry, for the operator. */
export interface Retried {
  isDone: boolean;
  text: string;
}

/** @throws OpsError when a store that it needs is not reachable: nothing has changed then */
export async function retryParked(parts: Parts, entry: ParkedEntry, decision: Decision): Promise<Retried> {
  const outcome = await parts.mysql().parkedWork.retry(entry.parkedId, decision);
  switch (outcome) {
    case 'due':
      if (entry.kind === 'delivery')
        return done('It is due at once, after what waits of the same order; a worker delivers it.');
      return done(`It is due before all other work. ${await nudge(parts, entry)}`);
    case 'ended':
      return settleEnded(parts, entry, decision);
    case 'not-stored':
      return putBack(parts, entry, entry.reference, decision);
    case 'outbox':
      return putBack(parts, entry, String(entry.inputs['orderNo'] ?? ''), decision);
    case 'undecided':
      return refused(
        'Trying again changes nothing: the rules have decided what they can. `ops refund` sends the money back; `ops parked resolve` takes it off the list.',
      );
    case 'resolved':
      return done('It is not parked any more; nothing was changed.');
    case 'unknown':
      throw new OpsError(`There is no parked entry ${entry.parkedId}.`);
    default:
      return outcome satisfies never;
  }
}

/** The order has ended in MySQL, and Redis is to follow. */
async function settleEnded(parts: Parts, entry: ParkedEntry, decision: Decision): Promise<Retried> {
  const reservations = createReservations(await parts.redis(), NO_ORDERS);
  const stored = await parts.mysql().orders.read(entry.reference);
  if (!stored) throw new OpsError(`Order ${entry.reference} is gone from MySQL.`);
  const { status } = stored.state;
  await reservations.project(entry.reference, stored.state);
  const hold = await (status === 'paid'
    ? reservations.confirm(entry.reference)
    : reservations.release(entry.reference));
  const isSettled = status === 'paid' ? hold === 'sold' || hold === 'returned' : hold === 'released';
  if (!isSettled) {
    return refused(
      `The order is ${status}, and Redis has nothing to settle for it (${hold}). Where \`ops audit\` finds nothing wrong about it, resolve the entry.`,
    );
  }
  await parts.mysql().parkedWork.completeRetry(entry, decision);
  return done(`The order is ${status}. Its hold in Redis: ${hold}. The entry is resolved.`);
}

/** Puts an order that no relay reads any more back into the outbox, where Redis has all of it. */
async function putBack(
  parts: Parts,
  entry: ParkedEntry,
  orderNo: string,
  decision: Decision,
): Promise<Retried> {
  if (!parseOrderNo(orderNo)) return refused(`It names no order: ${orderNo || '(nothing)'}. Resolve it.`);
  const redis = await parts.redis();
  const [reserved] = await createReservations(redis, NO_ORDERS).readOrders([orderNo]);
  if (!reserved) return refused(`Redis has no whole order ${orderNo}; there is nothing to put back.`);
  // Twice does no harm, should this process die in between: storing finds the order.
  await putIntoOutbox(redis, orderNo);
  await parts.mysql().parkedWork.completeRetry(entry, decision);
  return done(`Order ${orderNo} is in the outbox again, and the entry is resolved.`);
}

/** A step that waits for its next try, up to ten minutes away, is tried at once. */
async function nudge(parts: Parts, { kind, reference }: ParkedEntry): Promise<string> {
  const workflowIds =
    kind === 'order'
      ? [reference]
      : (await parts.mysql().parkedWork.listPayments(reference)).map(refundWorkflowId);
  try {
    const runs = createWorkflowRuns(await parts.temporal());
    let nudged = 0;
    for (const workflowId of workflowIds) nudged += await runs.nudge(workflowId);
    return nudged > 0 ? 'Its failing step is tried at once.' : 'No step of a workflow was waiting.';
  } catch (error) {
    return `A failing step could not be hurried, and goes on at its own pace: ${messageOf(error)}`;
  }
}

function done(text: string): Retried {
  return { isDone: true, text };
}

function refused(text: string): Retried {
  return { isDone: false, text };
}
