/** Where the reconciliation publishes the drift that its last run found, for the API's metrics. */

import { z } from 'zod';
import type { RedisClient } from '../redis/connection.ts';
import { DRIFT_KEY } from '../redis/keys.ts';

/** Entries that are published: enough to see where it is, and few enough for each scrape. */
const ENTRIES_MAX = 200;
/** What no run has confirmed for so long is not known any more. */
const KEEP_MS = 24 * 60 * 60 * 1000;

const WHAT = ['held', 'sold', 'available', 'total', 'hold', 'limit', 'counters', 'lost'] as const;

/** What differs between the stores, as the last run found it before it repaired anything. */
export interface DriftEntry {
  saleId: string;
  /** Empty where it is about an order. */
  sku: string;
  what: (typeof WHAT)[number];
  /** Units; for a hold, for MySQL's own counters and for lost ones 1. */
  units: number;
}

export interface Drift {
  /** Since then each sale has been compared whole (Unix ms). */
  lookedAtMs: number;
  entries: DriftEntry[];
  /** When each sale was last compared whole (Unix ms), by its id. */
  sales?: Record<string, number>;
  /** The sales that could not be compared, by their ids. */
  missed?: Record<string, Missed>;
}

export interface Missed {
  /** So many runs in a row. */
  runs: number;
  why: string;
}

const stored = z.object({
  lookedAtMs: z.number(),
  entries: z.array(
    z.object({
      saleId: z.string(),
      sku: z.string(),
      what: z.enum(WHAT),
      units: z.number(),
    }),
  ),
  sales: z.record(z.string(), z.number()).default({}),
  missed: z.record(z.string(), z.object({ runs: z.int(), why: z.string() })).default({}),
});

/** Replaces what was published before. */
export async function publish(redis: RedisClient, { entries, ...drift }: Drift): Promise<void> {
  const text = JSON.stringify({ ...drift, entries: entries.slice(0, ENTRIES_MAX) });
  await redis.set(DRIFT_KEY, text, 'PX', KEEP_MS);
}

/** Undefined while no run has published anything. */
export async function read(redis: RedisClient): Promise<Drift | undefined> {
  const text = await redis.get(DRIFT_KEY);
  return text === null ? undefined : stored.parse(JSON.parse(text));
}
