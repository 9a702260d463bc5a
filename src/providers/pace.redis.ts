/**
 * How many calls a second all processes together make to the payment provider, and until when none is to be
 * made. Counted in Redis; while that does not answer, by each process alone.
 */

import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import { answerInTime, type RedisClient } from '../redis/connection.ts';

type Urgency = 'shopper' | 'background';

/**
 * Of all calls. Shoppers always find half of them free, and leave a tenth to refunds, voids and the book, so
 * that neither keeps the other waiting for ever.
 */
const SHARE: Readonly<Record<Urgency, number>> = { shopper: 0.9, background: 0.5 };
/** Without Redis no process knows of the others: each makes a quarter of the calls, as if there were four. */
const ALONE_SHARE = 0.25;
/** For so long a Redis that did not answer is not asked again, so that not each call waits for it. */
const PAUSE_MS = 2_000;
/** The key that all calls count under. */
const ALL = 'all';

export type ProviderPace = ReturnType<typeof createProviderPace>;

/** One count of calls: of all processes, and for while Redis does not answer, of this one. */
interface Limiter {
  shared: RateLimiterRedis;
  alone: RateLimiterMemory;
}

export function createProviderPace(redis: RedisClient, callsPerSecond: number) {
  let aloneUntilMs = 0;

  const open = (share: number): Limiter => {
    const points = Math.max(1, Math.floor(callsPerSecond * share));
    return {
      shared: new RateLimiterRedis({
        points,
        duration: 1,
        storeClient: redis,
        keyPrefix: 'holdfast:provider-pace',
        rejectIfRedisNotReady: true,
      }),
      alone: new RateLimiterMemory({ points: Math.max(1, Math.floor(points * ALONE_SHARE)), duration: 1 }),
    };
  };
  const all = open(1);
  const own = { shopper: open(SHARE.shopper), background: open(SHARE.background) };

  /**
   * @returns undefined when Redis does not answer
   * @throws RateLimiterRes when there is no room
   */
  async function ask<T>(question: () => Promise<T>): Promise<T | undefined> {
    if (Date.now() < aloneUntilMs) return undefined;
    try {
      return await answerInTime(question());
    } catch (error) {
      if (error instanceof RateLimiterRes) throw error;
      aloneUntilMs = Date.now() + PAUSE_MS;
      return undefined;
    }
  }

  async function consume({ shared, alone }: Limiter, key: string): Promise<number> {
    try {
      if (!(await ask(() => shared.consume(key)))) await alone.consume(key);
      return 0;
    } catch (refusal) {
      if (!(refusal instanceof RateLimiterRes)) throw refusal;
      return Math.max(1, refusal.msBeforeNext);
    }
  }

  return {
    /** Takes room for one call. @returns 0, or the ms after which to ask again */
    async take(urgency: Urgency): Promise<number> {
      return (await consume(own[urgency], urgency)) || (await consume(all, ALL));
    },

    /** No process takes room for so many ms, rounded up to whole seconds. */
    async pause(ms: number): Promise<void> {
      const seconds = Math.ceil(ms / 1_000);
      await all.alone.block(ALL, seconds);
      await ask(() => all.shared.block(ALL, seconds));
    },
  };
}
