/** Settles a change of a sale, once it is known whether Redis can make it. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import {
  compareDocuments,
  type ChangeAction,
  type DecidedSale,
  type SaleDocument,
} from '../../../domain/sale-change.ts';
import { shopStateOf, snapshotSale } from '../../../domain/sale-snapshot.ts';
import type { StockCount } from '../../../domain/sale.ts';
import { modify, selectRows, type Executor } from '../connection.ts';
import { recordAction, type Decision } from '../rows/audit-log.ts';
import { lockSale, writeDocument, type SaleRecord } from '../rows/sale-rows.ts';
import { recordShopEvent } from '../rows/shop-events.ts';
import { endChange, readChange, readEnd, type ChangeEnd, type PendingChange } from './change-rows.ts';
import type { StockReply } from './sale-changes.ts';
import { withTotals } from './shown-sales.ts';

/** Values in one entry of the log, and characters of each: the column takes 64 KiB. */
const LOGGED_MAX = 50;
const LOGGED_CHARS = 60;

const committedRow = z.object({ sku: z.string(), committed: z.int() });

export type Settled = ChangeEnd;

/**
 * A second call finds how it ended.
 * @param reply `stale`: another process has decided it, and settled it before the next one was recorded; or
 *   MySQL had lost commits, and it was withdrawn
 * @param live the stock as Redis counts it since; by default MySQL's
 */
export async function settleChange(
  connection: Executor,
  change: PendingChange,
  reply: Exclude<StockReply, { kind: 'sale-absent' }>,
  live?: readonly StockCount[],
): Promise<Settled | undefined> {
  const { saleId, changeNo, changeId } = change;
  const found = await lockSale(connection, saleId);
  assert(found, `no sale ${saleId}`);
  if (found.pendingNo !== changeNo || found.changeId !== changeId) return readEnd(connection, change);
  if (reply.kind === 'stale') return undefined;
  const end = endOf(reply);
  await settle(connection, found, change, end, live);
  return end;
}

function endOf(reply: Exclude<StockReply, { kind: 'sale-absent' | 'stale' }>): ChangeEnd {
  switch (reply.kind) {
    case 'changed':
      return { kind: 'applied' };
    case 'below-committed':
      return { ...reply, kind: 'refused' };
    case 'closed':
      return { kind: 'ended' };
    default:
      return reply satisfies never;
  }
}

/**
 * Decides the pending change of a sale whose data in Redis are made again, in the transaction that has locked
 * the sale. Redis' own decision may be lost. Had Redis made the change, MySQL counts no more than it allows;
 * had it not, nothing was sold of what the change adds: so MySQL can always follow. An end that has passed
 * is final, as shoppers were told of it.
 */
export async function decideInMysql(connection: Executor, saleId: string): Promise<void> {
  const found = await lockSale(connection, saleId);
  if (found?.pendingNo === undefined) return;
  const change = await readChange(connection, saleId, found.pendingNo);
  const hasClosed = found.nowMs >= found.sale.closesAtMs;
  if (hasClosed && change.document.sale.closesAtMs > found.nowMs) {
    await settle(connection, found, change, { kind: 'ended' });
    return;
  }
  const rows = await selectRows(
    connection,
    committedRow,
    'SELECT sku, held + sold AS committed FROM skus WHERE sale_id = ? ORDER BY sku FOR UPDATE',
    [saleId],
  );
  const totals = new Map(change.document.sale.skus.map(({ sku, total }) => [sku, total]));
  const tooMany = rows.find(({ sku, committed }) => committed > (totals.get(sku) ?? 0));
  await settle(connection, found, change, tooMany ? { kind: 'refused', ...tooMany } : { kind: 'applied' });
}

async function settle(
  connection: Executor,
  found: SaleRecord,
  change: PendingChange,
  end: ChangeEnd,
  live?: readonly StockCount[],
): Promise<void> {
  const { saleId, action, actor, reason } = change;
  await endChange(connection, change, end);
  if (end.kind !== 'applied') {
    // Redis never had the totals that went up.
    await writeDocument(connection, change.former);
    const { kind: why, ...about } = end;
    const detail = { changeNo: change.changeNo, asked: action, why, ...about };
    await recordAction(connection, {
      actor,
      reason,
      action: 'sale_change_refused',
      subject: `sale ${saleId}`,
      detail,
    });
    return;
  }
  await writeDocument(connection, change.document);
  if (action !== 'warm_up') {
    const former = { ...found, ...change.former };
    await announceOpening(connection, former, live ?? found.stock);
    await noteChange(connection, former, change.document, action, change, live);
    return;
  }
  await modify(
    connection,
    'UPDATE sales SET warmed_up_at = COALESCE(warmed_up_at, NOW(3)) WHERE sale_id = ?',
    [saleId],
  );
}

/**
 * Takes over what Redis has decided and MySQL has lost, in the transaction that has locked the sale and found
 * it behind. A change that is pending was made of what the sale was before, so it is withdrawn: its caller
 * sends it again, and no other may undo what was decided since.
 */
export async function takeOver(
  connection: Executor,
  found: SaleRecord,
  { changeNo, changeId, sale }: DecidedSale,
): Promise<void> {
  const { saleId, refundRestoresLimit } = found.sale;
  const decision = { actor: 'holdfast', reason: 'MySQL had lost changes that Redis has made' };
  const pending =
    found.pendingNo === undefined ? undefined : await readChange(connection, saleId, found.pendingNo);
  if (pending) await endChange(connection, pending, { kind: 'withdrawn' });
  const former = pending?.former ?? found;
  const document: SaleDocument = { sale: { ...sale, refundRestoresLimit }, isDraft: false };
  await modify(
    connection,
    `UPDATE sales SET change_no = ?, change_id = ?, warmed_up_at = COALESCE(warmed_up_at, NOW(3)) WHERE sale_id = ?`,
    [changeNo, changeId, saleId],
  );
  await recordAction(connection, {
    ...decision,
    action: 'sale_taken_over',
    subject: `sale ${saleId}`,
    detail: { changeNo: found.changeNo, taken: changeNo, withdrawn: pending?.action ?? null },
  });
  await writeDocument(connection, document);
  if (compareDocuments(former, document).length > 0)
    await noteChange(connection, { ...found, ...former }, document, 'put', decision);
}

/**
 * A sale that has opened by the clock is announced within a second. A change that is made before that
 * announces it first, as it was before the change.
 */
async function announceOpening(
  connection: Executor,
  former: SaleRecord,
  counts: readonly StockCount[],
): Promise<void> {
  if (!former.isWarm || former.hasOpened || shopStateOf(former) !== 'open') return;
  const { saleId } = former.sale;
  await modify(connection, 'UPDATE sales SET opened_at = NOW(3) WHERE sale_id = ?', [saleId]);
  const data = { sale: snapshotSale(former, withTotals(counts, former.sale)) };
  await recordShopEvent(connection, { type: 'sale.opened', saleId, subject: saleId, data });
}

/** Counts, logs and announces a change that was made, in its transaction. */
export async function noteChange(
  connection: Executor,
  former: SaleRecord,
  document: SaleDocument,
  asked: ChangeAction,
  { actor, reason }: Decision,
  live?: readonly StockCount[],
): Promise<void> {
  const { saleId } = document.sale;
  await modify(connection, 'UPDATE sales SET version = version + 1 WHERE sale_id = ?', [saleId]);
  const found = await lockSale(connection, saleId);
  assert(found, `no sale ${saleId}`);
  const changes = compareDocuments(former, document);
  const detail = {
    asked,
    version: found.version,
    changes: changes
      .slice(0, LOGGED_MAX)
      .map(({ path, from, to }) => ({ path, from: short(from), to: short(to) })),
    more: Math.max(0, changes.length - LOGGED_MAX),
  };
  await recordAction(connection, {
    actor,
    reason,
    action: 'sale_changed',
    subject: `sale ${saleId}`,
    detail,
  });
  const data = { sale: snapshotSale(found, live ?? found.stock) };
  await recordShopEvent(connection, { type: 'sale.changed', saleId, subject: saleId, data });
}

function short(value: unknown): unknown {
  if (value === null || typeof value === 'number' || typeof value === 'boolean') return value;
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > LOGGED_CHARS ? `${text.slice(0, LOGGED_CHARS)}…` : text;
}
