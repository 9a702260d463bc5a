/**
 * Moves time, so that no test lives through a window, a claim or a pause. Each function writes the row as it
 * would be after so many seconds. `which`: the order's number, several, or `'all'`.
 *
 * These functions do not move the timer of a running workflow. Use `endWindow` for that.
 */

import type { Client } from '@temporalio/client';
import { z } from 'zod';
import { modify, type Pool } from '../../src/mysql/connection.ts';
import type { RedisClient } from '../../src/redis/connection.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { cancelRequested } from '../../src/workflows/contract.ts';
import { awaitStart } from './workflows/start.ts';

export type Which = string | readonly string[];

/** The times until which work is claimed, or from which it is due. */
const CLAIMS = {
  /** The start of an order's workflow, or its signal, by the starter. */
  start: { table: 'orders', column: 'engine_due_at', key: 'order_no' },
  /** The end of an order without a workflow, by the ender. */
  end: { table: 'orders', column: 'end_due_at', key: 'order_no' },
  /** Since when the ender closes the payment pages of an order. */
  closing: { table: 'orders', column: 'end_begun_at', key: 'order_no' },
  /** The news that an order's deadline is near. */
  expiring: { table: 'orders', column: 'expiring_due_at', key: 'order_no' },
  /** The start of a refund's workflow, or its signal, by the refund starter. */
  refund: { table: 'payments', column: 'engine_due_at', key: 'order_no' },
  /** A delivery to an endpoint. Its key is the endpoint. */
  push: { table: 'push_deliveries', column: 'claimed_until', key: 'endpoint_id' },
} as const;

/** Each row: the entry, and which relay has read it. */
const pendingReply = z.array(z.tuple([z.string(), z.string()]).rest(z.unknown()));

/** Open orders had their deadline so many seconds ago. A negative number: they have so many seconds left. */
export function ageDeadline(pool: Pool, which: Which, ageSeconds = 1): Promise<number> {
  return update(
    pool,
    `UPDATE orders SET deadline = NOW(3) - INTERVAL ? SECOND WHERE status = 'awaiting_payment'`,
    [ageSeconds],
    'order_no',
    which,
  );
}

/** What is claimed or due became free so many seconds ago. A row without a time there gets none. */
export function ageClaim(
  pool: Pool,
  claim: keyof typeof CLAIMS,
  which: Which,
  ageSeconds = 1,
): Promise<number> {
  const { table, column, key } = CLAIMS[claim];
  return update(
    pool,
    `UPDATE ${table} SET ${column} = NOW(3) - INTERVAL ? SECOND WHERE ${column} IS NOT NULL`,
    [ageSeconds],
    key,
    which,
  );
}

/** The orders' payments came so many seconds earlier than they did. */
export function agePayment(pool: Pool, which: Which, ageSeconds: number): Promise<number> {
  return update(
    pool,
    'UPDATE payments SET received_at = received_at - INTERVAL ? SECOND WHERE TRUE',
    [ageSeconds],
    'order_no',
    which,
  );
}

/**
 * The data of the sales were made again so many seconds ago, so that orders which are still missing count as
 * lost. `which`: the sale's id. @returns 0 where they are still being made
 */
export function ageRebuild(pool: Pool, which: Which, ageSeconds = 3_600): Promise<number> {
  return update(
    pool,
    `UPDATE sales SET rebuilt_at = NOW(3) - INTERVAL ? SECOND
     WHERE rebuilt_at IS NOT NULL AND rebuilding_since IS NULL`,
    [ageSeconds],
    'sale_id',
    which,
  );
}

/**
 * All relays of the sale have been silent for so long; after 30 s they count as dead. A relay that lives
 * takes its entries up again, so call this while none does. Where no relay has read yet, nothing changes.
 */
export async function ageRelay(redis: RedisClient, saleId: string, ageSeconds = 60): Promise<void> {
  const { outbox } = saleKeys({ saleId, shard: 0 });
  const groups = (await redis.exists(outbox)) === 0 ? [] : await redis.xinfo('GROUPS', outbox);
  if (!Array.isArray(groups) || groups.length === 0) return;
  for (const [entryId, consumer] of pendingReply.parse(
    await redis.xpending(outbox, 'relay', '-', '+', 1_000),
  ))
    await redis.call('XCLAIM', outbox, 'relay', consumer, '0', entryId, 'IDLE', ageSeconds * 1000, 'JUSTID');
}

/** The order's workflow, once it has begun, does what it does when the timer of its payment window fires. */
export async function endWindow(client: Client, orderNo: string): Promise<void> {
  await awaitStart(client, orderNo);
  await client.workflow.getHandle(orderNo).signal(cancelRequested, { reason: 'payment_timeout' });
}

function update(pool: Pool, sql: string, values: unknown[], key: string, which: Which): Promise<number> {
  return which === 'all'
    ? modify(pool, sql, values)
    : modify(pool, `${sql} AND ${key} IN (?)`, [...values, which]);
}
