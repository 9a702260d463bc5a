/**
 * Counts attempts to pay for an order, and those of a user. A test of stolen cards needs many attempts, a
 * shopper a few. While Redis does not answer, nothing is counted or refused.
 */

import { hash } from 'node:crypto';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import { MAX_PAYMENT_WINDOW_MS } from '../limits.ts';
import type { Order } from '../orders/content.ts';
import { answerInTime, type RedisClient } from '../redis/connection.ts';

/**
 * Failed attempts to pay for one order. Shoppers mistype, try a second card and a third; more is how stolen
 * cards are tested.
 */
export const MAX_FAILED_ATTEMPTS_OF_ORDER = 10;

/** Failed attempts of one user within the window below, whatever the orders: two orders full of them. */
export const MAX_FAILED_ATTEMPTS_OF_USER = 20;

/** Payment pages opened for one user within it: two a minute, where a shopper opens one an order. */
export const MAX_OPENED_SESSIONS_OF_USER = 120;

/** It counts from the first of them. */
export const USER_ATTEMPTS_WINDOW_MS = 60 * 60 * 1000;

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
