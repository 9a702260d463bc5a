/**
 * The engine budget: how many orders Temporal works on at once, over all processes.
 *
 * The engine is the slowest part, and a backlog of some hundred tasks makes a small server thrash. So whoever wants to start
 * or signal a workflow takes a slot first, and the workflow's next step on the order gives it back. A slot is a lease: when
 * its workflow never gets that far, the slot returns by itself.
 */

import type { RedisClient } from './connection.ts';
import { ENGINE_KEY } from './keys.ts';
import { run } from './script-call.ts';
import { admit } from './scripts.ts';

/** Longer than a start and its first step take under load, short enough that dead starts do not starve the living. */
const LEASE_MS = 15_000;

export type EngineBudget = ReturnType<typeof createEngineBudget>;

/** @param slots orders and signals in flight, all processes together */
export function createEngineBudget(redis: RedisClient, slots: number) {
  const take = (orderNos: readonly string[]) =>
    run(redis, admit, {
      keys: { engine: ENGINE_KEY },
      args: { slots, leaseMs: LEASE_MS },
      repeated: orderNos.map((orderNo) => ({ orderNo })),
    });

  return {
    /** Free slots, a moment ago. */
    room: async (): Promise<number> => (await take([])).room,

    /** Takes slots for as many of `orderNos` as there is room, in their order. One that holds a slot already keeps it. */
    acquire: async (orderNos: readonly string[]): Promise<string[]> =>
      orderNos.length === 0 ? [] : (await take(orderNos)).orderNos,

    /** The workflow has acted, or never will. */
    async release(orderNos: readonly string[]): Promise<void> {
      if (orderNos.length > 0) await redis.zrem(ENGINE_KEY, ...orderNos);
    },
  };
}
