/** The frame of a process that stores orders for a comparison, as `bench/compare/parts/payable` starts it. */

import { once } from 'node:events';
import { createPool, type Pool } from 'mysql2/promise';
import { z } from 'zod';

const setupSchema = z.object({
  /** The database in which the orders end: MySQL, or for one peer PostgreSQL. */
  storeUrl: z.string(),
  /** Where the orders wait. */
  queueUrl: z.string(),
  queue: z.string(),
});
export type Setup = z.infer<typeof setupSchema>;

/**
 * Runs until the process that started it ends it. `consume` resolves once orders can be consumed; the frame
 * then reports that it is ready.
 */
export async function runConsumer(consume: (setup: Setup) => Promise<unknown>): Promise<void> {
  const ended = once(process, 'disconnect');
  await consume(setupSchema.parse(JSON.parse(process.argv[2] ?? '{}')));
  process.send?.('ready');
  await ended;
  process.exit();
}

/** Connections with mysql2's own settings, one for each transaction at once. */
export function openStore(url: string, connections: number): Pool {
  return createPool({ uri: url, connectionLimit: connections, timezone: 'Z' });
}
