/** Starts the workflows of accepted orders, stored or not. */

import { isFinal, isTooLateToBegin } from '../domain/order.ts';
import type { OrderEngine } from '../engine/order-engine.ts';
import type { EngineGate } from './engine-gate.ts';
import { reserveOlder } from './lost-holds.ts';
import { orderNoOf, type Accepted } from './read-accepted.ts';
import type { Refused, StoreAheadDeps } from './store-ahead.ts';

export interface StartDeps extends StoreAheadDeps {
  engine: Pick<OrderEngine, 'start'>;
  gate: EngineGate;
}

/**
 * Starts orders that are stored and claimed, and ends the claims. An order whose start failed is due again at
 * once. One that is final in MySQL is not started: its entry came again. Nor is one that it is too late to
 * begin: due again, it is left to be ended without a workflow.
 * @param admitted orders that have a slot of the engine budget, with their states as MySQL has them
 * @param nowMs by Redis' clock (Unix ms)
 */
export async function startStored(
  deps: StartDeps,
  admitted: readonly Accepted[],
  nowMs: number,
): Promise<void> {
  const late = admitted.filter(({ order, state }) => !isUrgent(state) && isTooLateToBegin(order, nowMs));
  const open = admitted.filter((entry) => !isFinal(entry.state.status) && !late.includes(entry));
  const started = await deps.gate.run(open, orderNoOf, ({ order, state }) => deps.engine.start(order, state));
  await deps.gate.release(
    admitted.filter((entry) => !open.includes(entry)),
    orderNoOf,
  );
  await deps.orderClaims.complete(started);
  await deps.orderClaims.release([...open, ...late].filter((entry) => !started.includes(entry)));
}

/** It has money, or is to be cancelled. */
function isUrgent({ payment, reason }: Accepted['state']): boolean {
  return payment !== 'none' || reason !== null;
}

/**
 * Starts orders that could not be stored: their workflows store or abandon them. Takes the entries of those
 * that were started off the outbox; the others stay. One of an older epoch is reserved again instead, or
 * left: its shopper may have been told that it is lost, while this process was frozen. Left is also one that
 * it is too late to begin, while MySQL is away: once stored, it is ended without a workflow.
 * @param admitted orders that have a slot of the engine budget; `reason` where MySQL refuses the order, and
 *   not where MySQL is away
 * @param nowMs by Redis' clock (Unix ms)
 */
export async function startUnstored(
  deps: StartDeps,
  admitted: readonly (Accepted & Partial<Pick<Refused, 'reason'>>)[],
  nowMs: number,
): Promise<void> {
  const unpaid = admitted.filter(({ state }) => state.status !== 'paid');
  const handled = await reserveOlder(
    deps,
    unpaid.filter(({ reason }) => reason === undefined),
  );
  const late = unpaid.filter(
    ({ order, state, reason }) => reason === undefined && !isUrgent(state) && isTooLateToBegin(order, nowMs),
  );
  const startable = unpaid.filter((entry) => !handled.includes(entry) && !late.includes(entry));
  await deps.gate.release(
    unpaid.filter((entry) => !startable.includes(entry)),
    orderNoOf,
  );
  const started = await deps.gate.run(startable, orderNoOf, ({ order }) => deps.engine.start(order));
  await deps.outbox.acknowledge(started.map(({ entryId }) => entryId));
  for (const entry of admitted) if (!unpaid.includes(entry)) await parkPaid(deps, entry);
}

/**
 * A paid order that MySQL has lost and refuses is left to an operator: its workflow would abandon it and
 * release its units, and the goods may be on their way.
 */
async function parkPaid(
  { gate, orders, outbox }: StartDeps,
  entry: Accepted & Partial<Pick<Refused, 'reason'>>,
): Promise<void> {
  await gate.release([entry], orderNoOf);
  if (entry.reason === undefined) return;
  const { orderNo } = entry.order;
  await orders.parkOutboxEntry({
    reference: outbox.referenceOf(entry.entryId),
    orderNo,
    cause: 'paid_order_refused',
    reason: `${orderNo} was paid, and MySQL refuses the order: ${entry.reason}`,
  });
  await outbox.acknowledge([entry.entryId]);
}
