/** Projects many changes: those of one sale shard that have the same state are one script. */

import type { OrderState } from '../../domain/order.ts';
import { orderKeys } from './keys.ts';
import type { Reservations } from './reservations.ts';

/** The state of an order as MySQL has it. */
export interface OrderChange {
  orderNo: string;
  state: OrderState;
}

type Replies = Awaited<ReturnType<Reservations['projectAll']>>;

/** @returns a reply for each, in no order */
export async function projectChanges(
  reservations: Pick<Reservations, 'projectAll'>,
  changes: readonly OrderChange[],
): Promise<Replies> {
  const replies = await Promise.all(
    groupAlike(changes).map((alike) =>
      reservations.projectAll(
        alike.map(({ orderNo }) => orderNo),
        alike[0].state,
      ),
    ),
  );
  return replies.flat();
}

/** Of orders that were stored just now it is nearly always one group. */
function groupAlike<T extends OrderChange>(changes: readonly T[]): [T, ...T[]][] {
  const groups = new Map<string, [T, ...T[]]>();
  for (const change of changes) {
    const { status, version, payment, reason, refunded } = change.state;
    const key = `${orderKeys(change.orderNo).sale} ${status} ${version} ${payment} ${reason} ${refunded}`;
    const group = groups.get(key);
    if (group) group.push(change);
    else groups.set(key, [change]);
  }
  return [...groups.values()];
}
