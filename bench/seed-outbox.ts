/**
 * Fills the outbox of a sale with accepted orders, many to a round trip: each is reserved by the code and the
 * script of the API.
 */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { DEFAULT_STORES_PER_SECOND } from '../src/config.ts';
import { fingerprintOf } from '../src/orders/content.ts';
import { createReservations } from '../src/orders/reservations.redis.ts';
import type { RedisClient } from '../src/redis/connection.ts';

/** To a round trip; far below the time that a command may take. */
const AT_ONCE = 500;

export interface Seed {
  saleId: string;
  /** Orders, each of one unit. */
  count: number;
  sku?: string;
  /** Among whom the orders are shared out. */
  users?: number;
  /** Called with the number of orders accepted so far, after each round trip. */
  onProgress?: (accepted: number) => void;
}

/** @throws when an order is refused, say because the sale has fewer units */
export async function seedOutbox(redis: RedisClient, seed: Seed): Promise<void> {
  const { saleId, count, sku = 'unit', users = 1_000, onProgress } = seed;
  const reservations = createReservations(redis, { storesPerSecond: DEFAULT_STORES_PER_SECOND });
  const cart = { saleId, items: [{ sku, quantity: 1 }] };
  const fingerprint = fingerprintOf(cart);
  const reserve = (index: number) =>
    reservations.reserve({
      ...cart,
      userId: `bench-${index % users}`,
      idempotencyKey: randomUUID(),
      fingerprint,
      ip: '127.0.0.1',
      userAgent: 'bench',
    });
  for (let from = 0; from < count; from += AT_ONCE) {
    const size = Math.min(AT_ONCE, count - from);
    const outcomes = await Promise.all(Array.from({ length: size }, (_, i) => reserve(from + i)));
    for (const { kind } of outcomes) assert.equal(kind, 'reserved', 'every order is accepted');
    onProgress?.(from + size);
  }
}
