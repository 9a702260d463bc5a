/**
 * The engine budget: how many orders Temporal works on at once, over all processes.
 *
 * The engine is the slowest part, and a backlog of some hundred tasks makes a small server thrash. So a
 * process that starts or signals a workflow takes a slot first, and the workflow's next step on the order
 * gives it back. A slot is a lease: when its workflow never gets that far, the slot becomes free by itself.
 *
 * On a cluster the slots live on one node, and the orders of most sales on others. So this never fails:
 * without an answer there is no room, orders are stored, and their workflows start later.
 */

import type { Logger } from 'pino';
import { z } from 'zod';
import { answerInTime, type RedisClient } from './connection.ts';
import { ENGINE_KEY } from './keys.ts';
import { run, defineScript, replyInt } from './script.ts';

export const admitReply = z
  .tuple([z.literal('admitted'), replyInt], z.string())
  .transform(([, room, ...orderNos]) => ({ room, orderNos }));

export const admitScript = defineScript({
  file: 'admit',
  keys: ['engine'],
  args: ['slots', 'leaseMs'],
  repeated: ['orderNo'],
  reply: admitReply,
});

/**
 * Longer than a start and its first step take under load; short enough that starts that died do not starve
 * others.
 */
const LEASE_MS = 15_000;

/**
 * Starts take at most this share of the slots. The others are for what somebody waits for, such as a cancel
 * request. With a half, starts took the processors from payments: on two cores, with 3,000 orders waiting and
 * 100 payments a second, an order was paid within 369 ms (p99), with a quarter within 184 ms. As many orders
 * were begun.
 */
export const START_SHARE = 1 / 4;

/** For so long a node that did not answer is not asked again, so that each page does not wait for it. */
const PAUSE_MS = 2_000;

/** What a slot is for: the start of a workflow, or anything. */
export type SlotUse = 'start' | 'any';

export type EngineBudget = ReturnType<typeof createEngineBudget>;

/** @param slots orders and signals in flight, all processes together */
export function createEngineBudget(redis: RedisClient, slots: number, log: Logger) {
  let pausedUntilMs = 0;

  /** @returns undefined when there is no answer */
  async function ask<T>(question: () => Promise<T>): Promise<T | undefined> {
    if (Date.now() < pausedUntilMs) return undefined;
    try {
      return await answerInTime(question());
    } catch (error) {
      pausedUntilMs = Date.now() + PAUSE_MS;
      log.warn({ err: error }, 'the engine budget does not answer; no workflow is started meanwhile');
      return undefined;
    }
  }

  const slotsFor: Record<SlotUse, number> = {
    start: Math.ceil(slots * START_SHARE),
    any: slots,
  };

  const take = (orderNos: readonly string[], use: SlotUse) =>
    ask(() =>
      run(redis, admitScript, {
        keys: { engine: ENGINE_KEY },
        args: { slots: slotsFor[use], leaseMs: LEASE_MS },
        repeated: orderNos.map((orderNo) => ({ orderNo })),
      }),
    );

  return {
    /** The free slots, as of a moment ago. */
    room: async (use: SlotUse = 'any'): Promise<number> => (await take([], use))?.room ?? 0,

    /**
     * Takes slots for as many of `orderNos` as there is room, in their order. An order that holds a slot
     * keeps it.
     */
    acquire: async (orderNos: readonly string[], use: SlotUse = 'any'): Promise<string[]> =>
      orderNos.length === 0 ? [] : ((await take(orderNos, use))?.orderNos ?? []),

    /**
     * Gives slots back: the workflow has acted, or never will. Where that gets no answer, their leases run
     * out.
     */
    async release(orderNos: readonly string[]): Promise<void> {
      if (orderNos.length > 0) await ask(() => redis.zrem(ENGINE_KEY, ...orderNos));
    },
  };
}
