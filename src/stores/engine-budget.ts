/**
 * The engine budget: how many orders Temporal works on at once, over all processes.
 *
 * The engine is the slowest part, and a backlog of some hundred tasks makes a small server thrash. So whoever wants to start
 * or signal a workflow takes a slot first, and the workflow's next step on the order gives it back. A slot is a lease: when
 * its workflow never gets that far, the slot returns by itself.
 */

import { ENGINE_KEY } from './keys.ts';
import type { RedisClient } from './redis.ts';

/** Longer than a start and its first step take under load, short enough that dead starts do not starve the living. */
const LEASE_MS = 15_000;

export type EngineBudget = ReturnType<typeof createEngineBudget>;

/** @param slots orders and signals in flight, all processes together */
export function createEngineBudget(redis: RedisClient, slots: number) {
  async function room(): Promise<number> {
    await redis.zremrangebyscore(ENGINE_KEY, '-inf', Date.now());
    return Math.max(0, slots - (await redis.zcard(ENGINE_KEY)));
  }

  return {
    /** Free slots, a moment ago. */
    room,

    /**
     * Takes slots for as many of `orderNos` as there is room, in their order. An order that holds a slot already keeps it.
     * Adds first and gives back what was too much, so racing processes together never exceed the budget.
     */
    async acquire(orderNos: readonly string[]): Promise<string[]> {
      if (orderNos.length === 0) return [];
      const wanted = orderNos.slice(0, await room());
      if (wanted.length === 0) return [];
      const leaseEndMs = Date.now() + LEASE_MS;
      await redis.zadd(ENGINE_KEY, ...wanted.flatMap((orderNo) => [leaseEndMs, orderNo]));
      const excess = Math.min(wanted.length, Math.max(0, (await redis.zcard(ENGINE_KEY)) - slots));
      const granted = wanted.slice(0, wanted.length - excess);
      const refused = wanted.slice(granted.length);
      if (refused.length > 0) await redis.zrem(ENGINE_KEY, ...refused);
      return granted;
    },

    /** The workflow has acted, or never will. */
    async release(orderNos: readonly string[]): Promise<void> {
      if (orderNos.length > 0) await redis.zrem(ENGINE_KEY, ...orderNos);
    },
  };
}
