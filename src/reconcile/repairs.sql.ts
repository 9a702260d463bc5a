/** What a reconciliation that repairs needs of MySQL: orders' states, the log of repairs, parked work. */

import { z } from 'zod';
import { modify, selectRows, type Pool } from '../mysql/connection.ts';
import type { OrderState } from '../orders/order.ts';
import { stateColumns, toState } from '../orders/rows.sql.ts';
import { recordAction, type RepairAction, type ParkedFacts, park } from '../parked/parked.sql.ts';

/** Actions of the system itself have this actor. */
export const SYSTEM = 'holdfast';

const stateRow = z.object({ order_no: z.string(), ...stateColumns, recorded: z.coerce.boolean() });

/** The provider's book brings what MySQL has lost within 26 hours (docs/operations.md), and some minutes. */
const LOST_FOR_HOURS = 27;

/** Redis has an end within so long, unless it is away or cannot work on the order. */
const ENDED_WITHIN_SECONDS = 60;

/**
 * A run misses a sale that is being changed or rebuilt, and the next compares it. The alert for drift that is
 * not compared waits for longer, so that the sale is parked when it fires.
 */
const PARKED_AFTER_RUNS = 3;

/** Something that was provably wrong and is mended. */
export interface Repair {
  action: RepairAction;
  /** Such as an orderNo, or `sale <saleId> <SKU>`. */
  subject: string;
  before: unknown;
  after: unknown;
}

/**
 * The states of those of these orders that are stored, by orderNo. `null` where the row is not as its
 * last event: it was changed by hand, and must not be acted upon.
 */
export async function readStates(
  pool: Pool,
  orderNos: readonly string[],
): Promise<Map<string, OrderState | null>> {
  if (orderNos.length === 0) return new Map();
  const rows = await selectRows(
    pool,
    stateRow,
    `SELECT o.order_no, o.status, o.version, o.payment, o.closing_reason, o.refunded, o.extended_until,
       e.order_no IS NOT NULL AS recorded
         FROM orders o LEFT JOIN order_events e
           ON e.order_no = o.order_no AND e.version = o.version AND e.status = o.status
         WHERE o.order_no IN (?)`,
    [orderNos],
  );
  return new Map(rows.map((row) => [row.order_no, row.recorded ? toState(row) : null]));
}

/** Whether the order has just ended, and a process is about to bring that to Redis. */
export async function isBeingEnded(pool: Pool, orderNo: string): Promise<boolean> {
  const rows = await selectRows(
    pool,
    z.object({ order_no: z.string() }),
    `SELECT o.order_no FROM orders o JOIN order_events e ON e.order_no = o.order_no AND e.version = o.version
         WHERE o.order_no = ? AND o.end_due_at IS NOT NULL AND e.occurred_at > NOW(3) - INTERVAL ? SECOND`,
    [orderNo, ENDED_WITHIN_SECONDS],
  );
  return rows.length > 0;
}

/** Those of these orders that MySQL has lost, that were paid, and that are parked as it refuses them. */
export async function listRefusedPaid(pool: Pool, orderNos: readonly string[]): Promise<Set<string>> {
  if (orderNos.length === 0) return new Set();
  const rows = await selectRows(
    pool,
    z.object({ order_no: z.string() }),
    `SELECT DISTINCT JSON_UNQUOTE(JSON_EXTRACT(inputs, '$.orderNo')) AS order_no FROM parked
         WHERE kind = 'outbox_entry' AND cause = 'paid_order_refused'
           AND JSON_UNQUOTE(JSON_EXTRACT(inputs, '$.orderNo')) IN (?)`,
    [orderNos],
  );
  return new Set(rows.map((row) => row.order_no));
}

/** Writes down a repair that was made outside MySQL, after it was made. */
export function record(pool: Pool, { action, subject, before, after }: Repair): Promise<void> {
  return recordAction(pool, {
    actor: SYSTEM,
    reason: null,
    action,
    subject,
    detail: { before, after },
  });
}

/** Whether MySQL has lost commits of late: what it does not know of may still be found. */
export async function hasLostCommits(pool: Pool): Promise<boolean> {
  const rows = await selectRows(
    pool,
    z.object({ entry_id: z.int() }),
    `SELECT entry_id FROM audit_log
         WHERE subject = 'mysql' AND action = 'commits_lost' AND occurred_at > NOW(3) - INTERVAL ? HOUR LIMIT 1`,
    [LOST_FOR_HOURS],
  );
  return rows.length > 0;
}

/** Parks an order that the rules cannot settle. */
export function parkOrder(
  pool: Pool,
  orderNo: string,
  cause: ParkedFacts['cause'],
  reason: string,
): Promise<void> {
  return park(pool, 'order', orderNo, reason, { cause, inputs: { orderNo } });
}

/** Parks a SKU whose counters, ledger and orders contradict each other. */
export function parkSale(pool: Pool, saleId: string, sku: string, reason: string): Promise<void> {
  return park(pool, 'sale', `${saleId} ${sku}`, reason, {
    cause: 'stock_unexplained',
    inputs: { saleId, sku },
  });
}

/**
 * Parks the sales that several runs in a row could not compare. Ends the parking of those that are compared
 * again.
 * @param missed all that could not be compared, by their ids
 * @returns how many of them are parked
 */
export async function showNotCompared(
  pool: Pool,
  missed: ReadonlyMap<string, { runs: number; why: string }>,
): Promise<number> {
  const lasting = [...missed].filter(([, { runs }]) => runs >= PARKED_AFTER_RUNS);
  for (const [saleId, { why }] of lasting)
    await park(pool, 'sale', saleId, why, { cause: 'sale_not_compared', inputs: { saleId } });
  const left = missed.size > 0 ? [[...missed.keys()]] : [];
  await modify(
    pool,
    // Also what an operator has resolved: it is over, so the next time it is shown again.
    `UPDATE parked SET resolved_at = COALESCE(resolved_at, NOW(3)), settled_by = 'rules'
         WHERE kind = 'sale' AND cause = 'sale_not_compared' AND (resolved_at IS NULL OR settled_by = 'operator')
           ${left.length > 0 ? 'AND reference NOT IN (?)' : ''}`,
    left,
  );
  return lasting.length;
}

/** Ends the parking of SKUs whose books add up again. */
export async function unparkSales(pool: Pool, saleId: string, skus: readonly string[]): Promise<void> {
  if (skus.length === 0) return;
  await modify(
    pool,
    `UPDATE parked SET resolved_at = COALESCE(resolved_at, NOW(3)), settled_by = 'rules'
         WHERE kind = 'sale' AND reference IN (?) AND (resolved_at IS NULL OR settled_by = 'operator')`,
    [skus.map((sku) => `${saleId} ${sku}`)],
  );
}
