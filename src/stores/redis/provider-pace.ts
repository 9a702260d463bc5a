/**
 * How many calls a second all processes together make to the payment provider, and until when none is to be
 * made. Counted in Redis; while that does not answer, by each process alone.
 */

import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import type { RedisClient } from './connection.ts';

type Urgency = 'shopper' | 'background';

/**
 * Of all calls. Shoppers always find half of them free, and leave a tenth to refunds, voids and the book, so
 * that neither keeps the other waiting for ever.
 */
const SHARE: Readonly<Record<Urgency, number>> = { shopper: 0.9, background: 0.5 };
/** Without Redis no process knows of the others: each makes a quarter of the calls, as if there were four. */
const ALONE_SHARE = 0.25;
/** The key that all calls count under. */
const ALL = 'all';

export type ProviderPace = ReturnType<typeof createProviderPace>;

export function createProviderPace(redis: RedisClient, callsPerSecond: number) {
  const open = (share: number): RateLimiterRedis => {
    const bound = { points: Math.max(1, Math.floor(callsPerSecond * share)), duration: 1 };
    return new RateLimiterRedis({
      ...bound,
      storeClient: redis,
      keyPrefix: 'holdfast:provider-pace',
      rejectIfRedisNotReady: true,
      insuranceLimiter: new RateLimiterMemory({
        ...bound,
        points: Math.max(1, Math.floor(bound.points * ALONE_SHARE)),
      }),
    });
  };
  const all = open(1);
  const own = { shopper: open(SHARE.shopper), background: open(SHARE.background) };

  return {
    /** Takes room for one call. @returns 0, or the ms after which to ask again */
    async take(urgency: Urgency): Promise<number> {
      return (await consume(own[urgency], urgency)) || (await consume(all, ALL));
    },

    /** No process takes room for so many ms, rounded up to whole seconds. */
    async pause(ms: number): Promise<void> {
      await all.block(ALL, Math.ceil(ms / 1_000));
    },
  };
}

async function consume(limiter: RateLimiterRedis, key: string): Promise<number> {
  try {
    await limiter.consume(key);
    return 0;
  } catch (refusal) {
    if (!(refusal instanceof RateLimiterRes)) throw refusal;
    return Math.max(1, refusal.msBeforeNext);
  }
}
