/**
 * The way into Temporal, shared by all that start or tell workflows in this process: takes slots from the engine budget, and
 * keeps off for a while when Temporal is away or overloaded. What it does not take is stored ahead or tried again.
 */

import type { Logger } from 'pino';
import type { EngineBudget } from '../stores/redis/engine-budget.ts';
import { backoffMs } from './loop.ts';

export type EngineGate = ReturnType<typeof createEngineGate>;

export function createEngineGate(budget: EngineBudget, log: Logger) {
  let failures = 0;
  let closedUntilMs = 0;
  const isClosed = () => Date.now() < closedUntilMs;

  /** After a failure one order goes ahead as a probe; the others need not wait for its answer. */
  const limitToProbe = <T>(orders: readonly T[]): readonly T[] =>
    failures === 0 ? orders : orders.slice(0, 1);

  /** Those that may be handed over now, in their order; they hold a slot. */
  async function admit<T>(orders: readonly T[], orderNoOf: (order: T) => string): Promise<T[]> {
    if (isClosed()) return [];
    const granted = new Set(await budget.acquire(limitToProbe(orders).map(orderNoOf)));
    return orders.filter((order) => granted.has(orderNoOf(order)));
  }

  /** Hands over what was admitted; answers those that Temporal has now. The others have given their slots back. */
  async function run<T>(
    admitted: readonly T[],
    orderNoOf: (order: T) => string,
    work: (order: T) => Promise<unknown>,
  ): Promise<T[]> {
    const results = await Promise.allSettled(admitted.map(work));
    const errors = results.flatMap((result) =>
      result.status === 'rejected' ? [result.reason as unknown] : [],
    );
    if (errors.length > 0) {
      await budget.release(admitted.filter((_, i) => results[i]?.status === 'rejected').map(orderNoOf));
      closedUntilMs = Date.now() + backoffMs(failures);
      failures += 1;
      log.warn({ err: errors[0], failed: errors.length, failures }, 'Temporal takes no orders; keeping off');
    } else if (admitted.length > 0) {
      failures = 0;
    }
    return admitted.filter((_, i) => results[i]?.status === 'fulfilled');
  }

  return {
    /** How many more the engine would take now; none while it is kept off. */
    room: async (): Promise<number> =>
      isClosed() ? 0 : Math.min(await budget.room(), failures === 0 ? Infinity : 1),
    admit,
    run,
  };
}
