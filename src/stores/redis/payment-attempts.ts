/**
 * Counts attempts to pay for an order, and those of a user. A test of stolen cards needs many attempts, a
 * shopper a few. While Redis does not answer, nothing is counted or refused.
 */

import { hash } from 'node:crypto';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import type { Order } from '../../domain/content.ts';
import {
  MAX_FAILED_ATTEMPTS_OF_ORDER,
  MAX_FAILED_ATTEMPTS_OF_USER,
  MAX_OPENED_SESSIONS_OF_USER,
  MAX_PAYMENT_WINDOW_MS,
  USER_ATTEMPTS_WINDOW_MS,
} from '../../domain/limits.ts';
import { answerInTime, type RedisClient } from './connection.ts';

/** For so long a Redis that did not answer is not asked again, so that not each call waits for it. */
const PAUSE_MS = 2_000;

type Payer = Pick<Order, 'orderNo' | 'userId'>;

export function createPaymentAttempts(redis: RedisClient) {
  let awayUntilMs = 0;

  const open = (what: string, points: number, windowMs: number) =>
    new RateLimiterRedis({
      points,
      duration: windowMs / 1_000,
      storeClient: redis,
      keyPrefix: `holdfast:attempts:${what}`,
      rejectIfRedisNotReady: true,
    });
  const failedOfOrder = open('order', MAX_FAILED_ATTEMPTS_OF_ORDER, MAX_PAYMENT_WINDOW_MS);
  const failedOfUser = open('user', MAX_FAILED_ATTEMPTS_OF_USER, USER_ATTEMPTS_WINDOW_MS);
  const openedByUser = open('opened', MAX_OPENED_SESSIONS_OF_USER, USER_ATTEMPTS_WINDOW_MS);

  /** @returns undefined when Redis does not answer */
  async function ask<T>(question: () => Promise<T>): Promise<T | undefined> {
    if (Date.now() < awayUntilMs) return undefined;
    try {
      return await answerInTime(question());
    } catch {
      awayUntilMs = Date.now() + PAUSE_MS;
      return undefined;
    }
  }

  async function waitOf(limiter: RateLimiterRedis, key: string): Promise<number> {
    const found = await limiter.get(key);
    return found && found.consumedPoints >= limiter.points ? Math.max(1, found.msBeforeNext) : 0;
  }

  return {
    /** @returns 0, or the ms after which it may be tried again */
    async waitMs({ orderNo, userId }: Payer): Promise<number> {
      const user = nameOf(userId);
      const waits = await ask(() =>
        Promise.all([waitOf(failedOfOrder, orderNo), waitOf(failedOfUser, user), waitOf(openedByUser, user)]),
      );
      return Math.max(0, ...(waits ?? []));
    },

    /** An attempt has failed at the provider. A process that dies here leaves it uncounted. */
    async countFailed({ orderNo, userId }: Payer): Promise<void> {
      await ask(() => Promise.all([failedOfOrder.penalty(orderNo), failedOfUser.penalty(nameOf(userId))]));
    },

    /** A page was opened at the provider. */
    async countOpened(userId: string): Promise<void> {
      await ask(() => openedByUser.penalty(nameOf(userId)));
    },
  };
}

/** Not the id itself, which an erasure would have to find here. */
function nameOf(userId: string): string {
  return hash('sha256', userId, 'base64url');
}
