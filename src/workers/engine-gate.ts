/**
 * The way into Temporal, shared by all that start or tell workflows in this process: takes slots from the engine budget, and
 * keeps off for a while when Temporal is away or overloaded. What it does not take is stored ahead or tried again.
 */

import type { Logger } from 'pino';
import type { EngineBudget } from '../stores/engine-budget.ts';
import { backoffMs } from './loop.ts';

export type EngineGate = ReturnType<typeof createEngineGate>;

export function createEngineGate(budget: EngineBudget, log: Logger) {
  let failures = 0;
  let closedUntilMs = 0;
  const isClosed = () => Date.now() < closedUntilMs;

  return {
    /** How many more the engine would take now; none while it is kept off. */
    room: (): Promise<number> => (isClosed() ? Promise.resolve(0) : budget.room()),

    /**
     * Hands over as many of `orders` as there is room for, in their order.
     * @returns those that Temporal has now
     */
    async pass<T>(
      orders: readonly T[],
      orderNoOf: (order: T) => string,
      handOver: (order: T) => Promise<void>,
    ): Promise<T[]> {
      if (isClosed()) return [];
      const granted = new Set(await budget.acquire(orders.map(orderNoOf)));
      const admitted = orders.filter((order) => granted.has(orderNoOf(order)));
      const results = await Promise.allSettled(admitted.map(handOver));
      const errors = results.flatMap((result) =>
        result.status === 'rejected' ? [result.reason as unknown] : [],
      );
      if (errors.length > 0) {
        await budget.release(admitted.filter((_, i) => results[i]?.status === 'rejected').map(orderNoOf));
        closedUntilMs = Date.now() + backoffMs(failures);
        failures += 1;
        log.warn(
          { err: errors[0], failed: errors.length, failures },
          'Temporal takes no orders; keeping off',
        );
      } else if (admitted.length > 0) {
        failures = 0;
      }
      return admitted.filter((_, i) => results[i]?.status === 'fulfilled');
    },
  };
}
