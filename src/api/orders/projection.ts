/**
 * The projection of orders as the API reads and writes it. After a time in which Redis did not answer, the
 * projection is doubted for a while: it may be older than what callers were answered from MySQL meanwhile.
 */

import type { Logger } from 'pino';
import type { OrderLook } from '../../stores/redis/order-look.ts';
import type { ReservedOrder, Reservations } from '../../stores/redis/reservations.ts';

/**
 * The workflows repeat what they could not project at most a minute apart, and a step takes seconds. A
 * doubted read costs one read of MySQL by primary key.
 */
const DOUBTED_FOR_MS = 2 * 60_000;

export interface ProjectionDeps {
  reservations: Pick<Reservations, 'lookUp' | 'project'>;
  log: Logger;
}

export type Projection = ReturnType<typeof createProjection>;

export function createProjection({ reservations, log }: ProjectionDeps) {
  let doubtedUntilMs = 0;

  function doubt(): void {
    doubtedUntilMs = performance.now() + DOUBTED_FOR_MS;
  }

  return {
    /** Redis did not answer a short while ago. */
    isDoubted: (): boolean => performance.now() < doubtedUntilMs,

    async read(orderNo: string): Promise<OrderLook | 'no-answer'> {
      try {
        return await reservations.lookUp(orderNo);
      } catch (error) {
        doubt();
        log.warn({ err: error, orderNo }, 'no answer from Redis; asking MySQL');
        return 'no-answer';
      }
    },

    /**
     * Projects what MySQL has before it is answered, so that no later answer is older. Where Redis does not
     * answer, the projection is doubted until the workflows have projected again.
     */
    async project({ order: { orderNo }, state }: ReservedOrder): Promise<void> {
      try {
        await reservations.project(orderNo, state);
      } catch (error) {
        doubt();
        log.warn({ err: error, orderNo }, 'answered and not projected');
      }
    },
  };
}
