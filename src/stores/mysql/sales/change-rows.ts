/** Rows of `sale_changes`: one for each change of a sale that is in Redis, and for its warm-up. */

import assert from 'node:assert/strict';
import { ulid } from 'ulidx';
import { z } from 'zod';
import {
  CHANGE_ACTIONS,
  saleDocumentSchema,
  type ChangeAction,
  type SaleDocument,
} from '../../../domain/sale-change.ts';
import { modify, selectRows, type Executor } from '../connection.ts';
import type { Decision } from '../rows/audit-log.ts';
import type { SaleRecord } from '../rows/sale-rows.ts';

const documentJson = z
  .string()
  .transform((text) => JSON.parse(text) as unknown)
  .pipe(saleDocumentSchema);
const pendingRow = z.object({
  sale_id: z.string(),
  change_no: z.int(),
  change_id: z.string(),
  action: z.enum(CHANGE_ACTIONS),
  document: documentJson,
  former: documentJson,
  actor: z.string(),
  reason: z.string().nullable(),
  epoch: z.int(),
});
const endRow = z.object({
  change_id: z.string(),
  status: z.enum(['pending', 'applied', 'refused', 'ended', 'withdrawn']),
  sku: z.string().nullable(),
  committed: z.int().nullable(),
});

/** A change that is recorded, and that Redis has not decided as far as MySQL knows. */
export interface PendingChange extends Decision {
  saleId: string;
  changeNo: number;
  /** Random: a number comes again where MySQL loses commits. */
  changeId: string;
  action: ChangeAction;
  /** What the sale becomes, and was. */
  document: SaleDocument;
  former: SaleDocument;
  /** Of the sale's data in Redis. */
  epoch: number;
}

/**
 * refused: more is held and sold than a new total. ended: the sale had closed. withdrawn: MySQL had lost
 * commits, and does not know the change, or had made it of a sale as it was no more; nothing came of it.
 */
export type ChangeEnd =
  | { kind: 'applied' }
  | { kind: 'refused'; sku: string; committed: number }
  | { kind: 'ended' }
  | { kind: 'withdrawn' };

/** In the transaction that has locked the sale. */
export async function insertChange(
  connection: Executor,
  found: SaleRecord,
  document: SaleDocument,
  action: ChangeAction,
  { actor, reason }: Decision,
): Promise<PendingChange> {
  const { saleId } = found.sale;
  const [changeNo, changeId] = [found.changeNo + 1, ulid()];
  const former: SaleDocument = { sale: found.sale, isDraft: found.isDraft };
  const target: SaleDocument = { sale: document.sale, isDraft: document.isDraft };
  await modify(
    connection,
    `INSERT INTO sale_changes (sale_id, change_no, change_id, action, status, document, former, actor, reason)
     VALUES (?, ?, ?, ?, 'pending', ?, ?, ?, ?)`,
    [saleId, changeNo, changeId, action, JSON.stringify(target), JSON.stringify(former), actor, reason],
  );
  await modify(
    connection,
    'UPDATE sales SET change_no = ?, change_id = ?, pending_change_no = ? WHERE sale_id = ?',
    [changeNo, changeId, changeNo, saleId],
  );
  const { epoch } = found;
  return { saleId, changeNo, changeId, action, document: target, former, actor, reason, epoch };
}

/** The change of this sale that is pending, in the transaction that has found it so. */
export async function readChange(reader: Executor, saleId: string, changeNo: number): Promise<PendingChange> {
  const [change] = await selectPending(reader, 's.sale_id = ?', [saleId]);
  assert(change?.changeNo === changeNo, `change ${changeNo} of sale ${saleId} is not pending`);
  return change;
}

/** @param condition of `sales` as `s`, maybe with ORDER BY and LIMIT */
export async function selectPending(
  reader: Executor,
  condition: string,
  values: unknown[],
): Promise<PendingChange[]> {
  const rows = await selectRows(
    reader,
    pendingRow,
    `SELECT c.sale_id, c.change_no, c.change_id, c.action, c.document, c.former, c.actor, c.reason, s.epoch FROM sales s
     STRAIGHT_JOIN sale_changes c ON c.sale_id = s.sale_id AND c.change_no = s.pending_change_no
     WHERE s.pending_change_no IS NOT NULL AND ${condition}`,
    values,
  );
  return rows.map(({ sale_id: saleId, change_no: changeNo, change_id: changeId, ...row }) => ({
    saleId,
    changeNo,
    changeId,
    ...row,
  }));
}

/** How a change ended; undefined: it is pending. */
export async function readEnd(
  reader: Executor,
  { saleId, changeNo, changeId }: Pick<PendingChange, 'saleId' | 'changeNo' | 'changeId'>,
): Promise<ChangeEnd | undefined> {
  const [row] = await selectRows(
    reader,
    endRow,
    'SELECT change_id, status, sku, committed FROM sale_changes WHERE sale_id = ? AND change_no = ?',
    [saleId, changeNo],
  );
  if (row?.change_id !== changeId) return { kind: 'withdrawn' };
  const { status, sku, committed } = row;
  if (status === 'pending') return undefined;
  return status === 'refused'
    ? { kind: status, sku: sku ?? '', committed: committed ?? 0 }
    : { kind: status };
}

/** Its documents are kept no longer: the log of actions says what was changed. */
export async function endChange(
  connection: Executor,
  { saleId, changeNo }: PendingChange,
  end: ChangeEnd,
): Promise<void> {
  const { sku, committed } = end.kind === 'refused' ? end : { sku: null, committed: null };
  await modify(
    connection,
    `UPDATE sale_changes SET status = ?, sku = ?, committed = ?, document = NULL, former = NULL, settled_at = NOW(3)
     WHERE sale_id = ? AND change_no = ?`,
    [end.kind, sku, committed, saleId, changeNo],
  );
  await modify(connection, 'UPDATE sales SET pending_change_no = NULL WHERE sale_id = ?', [saleId]);
}
