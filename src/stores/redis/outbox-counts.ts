/** How many orders wait in the outboxes of all sales, for a process that reserves orders. */

import type { RedisClient } from './connection.ts';
import { saleKeys } from './keys.ts';
import { listSales } from './outbox.ts';

/** How old a count may be, in ms. MySQL stores far less in it than may wait. */
const LOOK_EVERY_MS = 1_000;

/**
 * A process counts for itself while it reserves orders. The count of another, which has died since, would
 * look as healthy as a new one.
 */
export function createOutboxCounts(redis: RedisClient) {
  /** By their keys; those where orders waited at the last look. */
  const counts = new Map<string, number>();
  let nextLookMs = 0;

  /** What cannot be read counts as before: a node of a cluster may be away, or the list of sales damaged. */
  async function look(): Promise<void> {
    const [listed] = await Promise.allSettled([listSales(redis)]);
    const shards = listed.status === 'fulfilled' ? listed.value : [];
    const outboxes = new Set([...counts.keys(), ...shards.map((shard) => saleKeys(shard).outbox)]);
    await Promise.allSettled([...outboxes].map(async (key) => counts.set(key, await redis.xlen(key))));
    for (const [key, count] of counts) if (count === 0) counts.delete(key);
    nextLookMs = performance.now() + LOOK_EVERY_MS;
  }

  return {
    /**
     * The orders in all other outboxes than this one, at the last look. A new look is begun where that was a
     * while ago, and not waited for: the first count of a process is 0.
     */
    countWithout(outbox: string): number {
      if (performance.now() >= nextLookMs) {
        nextLookMs = Infinity;
        void look();
      }
      return [...counts].reduce((sum, [key, count]) => (key === outbox ? sum : sum + count), 0);
    },
  };
}
