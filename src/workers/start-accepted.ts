/** Starts the workflows of accepted orders, stored or not. */

import type { OrderEngine } from '../engine/order-engine.ts';
import { abandonOrder, type AbandonDeps } from '../reconcile/abandon.ts';
import { isInvalidValue } from '../stores/mysql/connection.ts';
import type { OrderClaims } from '../stores/mysql/orders/order-claims.ts';
import type { Orders } from '../stores/mysql/orders/orders.ts';
import type { EngineGate } from './engine-gate.ts';
import { orderNoOf, type Accepted } from './read-accepted.ts';
import { storeAhead, type Refused, type StoreAheadDeps } from './store-ahead.ts';

export interface StartDeps extends StoreAheadDeps {
  orders: StoreAheadDeps['orders'] & AbandonDeps['orders'] & Pick<Orders, 'parkOutboxEntry'>;
  orderClaims: Pick<OrderClaims, 'complete' | 'release'>;
  reservations: StoreAheadDeps['reservations'] & AbandonDeps['reservations'];
  engine: Pick<OrderEngine, 'start'>;
  gate: EngineGate;
}

/**
 * Starts orders that are stored and claimed, and ends the claims. An order whose start failed, or whose
 * workflow has ended, is due again at once.
 * @param admitted orders that have a slot of the engine budget, with their states as MySQL has them
 */
export async function startStored(deps: StartDeps, admitted: readonly Accepted[]): Promise<void> {
  const running = new Set<Accepted>();
  await deps.gate.run(admitted, orderNoOf, async (entry) => {
    const outcome = await deps.engine.start(entry.order, entry.state);
    if (outcome === 'running') running.add(entry);
    return outcome;
  });
  await deps.orderClaims.complete([...running]);
  await deps.orderClaims.release(admitted.filter((entry) => !running.has(entry)));
}

/**
 * Starts orders that could not be stored: their workflows store or abandon them. Takes the entries of those
 * that were started off the outbox; the others stay.
 * @param admitted orders that have a slot of the engine budget
 */
export async function startUnstored(deps: StartDeps, admitted: readonly Accepted[]): Promise<void> {
  const ended = new Set<Accepted>();
  const started = await deps.gate.run(admitted, orderNoOf, async (entry) => {
    const outcome = await deps.engine.start(entry.order);
    if (outcome === 'ended') ended.add(entry);
    return outcome;
  });
  const running = started.filter((entry) => !ended.has(entry));
  await deps.outbox.acknowledge(running.map(({ entryId }) => entryId));
  await settleEndedWorkflows(deps, [...ended]);
}

/**
 * Stores or abandons orders whose workflow has ended. Usually the workflow stored the order itself. It did
 * not when it was terminated, or when the order was reserved again after every store had lost it, and then no
 * other process stores the order.
 */
async function settleEndedWorkflows(deps: StartDeps, ended: readonly Accepted[]): Promise<void> {
  const { refused: allRefused } = await storeAhead(deps, ended, 'due');
  for (const refused of allRefused) {
    const parkReason = await abandonRefused(deps, refused);
    if (parkReason !== undefined) {
      await deps.orders.parkOutboxEntry(
        refused.entryId,
        `the workflow of ${refused.order.orderNo} has ended, and MySQL refuses the order: ${parkReason}`,
      );
    }
    await deps.outbox.acknowledge([refused.entryId]);
  }
}

/** Returns why the order is to be parked; undefined: it is abandoned and its stock is released. */
async function abandonRefused(
  deps: AbandonDeps,
  { order, state, reason }: Refused,
): Promise<string | undefined> {
  // The units of a paid order are not released, because the goods may be on their way.
  if (state.status === 'paid') return `${reason}, and it was paid`;
  try {
    await abandonOrder(deps, order, reason);
    return undefined;
  } catch (error) {
    // MySQL refuses the values of this very order. A repeat would fail too, and delay the other entries.
    if (!isInvalidValue(error)) throw error;
    return `${reason}, and ${String(error)}`;
  }
}
