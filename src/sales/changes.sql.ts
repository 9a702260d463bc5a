/**
 * Changes of sales. MySQL is the truth of what the shop decided, and Redis is sold from, so a change of a
 * sale that is in Redis takes three steps: it is recorded here, with the totals that go up; Redis decides
 * whether it can be made; and it is finished here, with all else. A process that dies in between leaves a
 * pending change, which any other completes. There is at most one for a sale.
 */

import assert from 'node:assert/strict';
import { ulid } from 'ulidx';
import { z } from 'zod';
import { modify, selectRows, type Executor, inTransaction, type Pool } from '../mysql/connection.ts';
import { jsonText } from '../orders/content.ts';
import { type Decision, recordAction } from '../parked/parked.sql.ts';
import {
  listCalledOff,
  lockSale,
  writeDocument,
  raiseTotals,
  recordShopEvent,
  type SaleRecord,
  withTotals,
  insertSale,
} from './rows.sql.ts';
import {
  CHANGE_ACTIONS,
  saleDocumentSchema,
  type ChangeAction,
  type SaleDocument,
  compareDocuments,
  type DecidedSale,
  shopStateOf,
  snapshotSale,
  type StockCount,
  findFixedRule,
  isBehind,
  type FixedRule,
  type Sale,
} from './sale.ts';

// Rows of `sale_changes`: one for each change of a sale that is in Redis, and for its warm-up.

const documentJson = jsonText(saleDocumentSchema);
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
async function insertChange(
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
async function selectPending(
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
async function readEnd(
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
async function endChange(
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

// Finishes a change of a sale, once it is known whether Redis can make it.

/** Values in one entry of the log, and characters of each: the column takes 64 KiB. */
const LOGGED_MAX = 50;
const LOGGED_CHARS = 60;

const committedRow = z.object({ sku: z.string(), committed: z.int() });

/**
 * A second call finds how it ended.
 * @param reply `stale`: another process has decided it, and finished it before the next one was recorded; or
 *   MySQL had lost commits, and it was withdrawn
 * @param live the stock as Redis counts it since; by default MySQL's
 */
async function finishChange(
  connection: Executor,
  change: PendingChange,
  reply: Exclude<StockReply, { kind: 'sale-absent' }>,
  live?: readonly StockCount[],
): Promise<ChangeEnd | undefined> {
  const { saleId, changeNo, changeId } = change;
  const found = await lockSale(connection, saleId);
  assert(found, `no sale ${saleId}`);
  if (found.pendingNo !== changeNo || found.changeId !== changeId) return readEnd(connection, change);
  if (reply.kind === 'stale') return undefined;
  const end = endOf(reply);
  await finish(connection, found, change, end, live);
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
 * is final, as shoppers have seen it.
 */
export async function decideInMysql(connection: Executor, saleId: string): Promise<void> {
  const found = await lockSale(connection, saleId);
  if (found?.pendingNo === undefined) return;
  const change = await readChange(connection, saleId, found.pendingNo);
  const hasClosed = found.nowMs >= found.sale.closesAtMs;
  if (hasClosed && change.document.sale.closesAtMs > found.nowMs) {
    await finish(connection, found, change, { kind: 'ended' });
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
  await finish(connection, found, change, tooMany ? { kind: 'refused', ...tooMany } : { kind: 'applied' });
}

async function finish(
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
async function takeOver(
  connection: Executor,
  found: SaleRecord,
  { changeNo, changeId, sale }: DecidedSale,
): Promise<void> {
  const { saleId, refundRestoresLimit, expiringNoticeMs } = found.sale;
  const decision = { actor: 'holdfast', reason: 'MySQL had lost changes that Redis has made' };
  const pending =
    found.pendingNo === undefined ? undefined : await readChange(connection, saleId, found.pendingNo);
  if (pending) await endChange(connection, pending, { kind: 'withdrawn' });
  const former = pending?.former ?? found;
  // Only MySQL has these rules.
  const document: SaleDocument = {
    sale: { ...sale, refundRestoresLimit, expiringNoticeMs },
    isDraft: false,
  };
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
async function noteChange(
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
  const subject = `sale ${saleId}`;
  await recordAction(connection, { actor, reason, action: 'sale_changed', subject, detail });
  const data = { sale: snapshotSale(found, live ?? found.stock) };
  await recordShopEvent(connection, { type: 'sale.changed', saleId, subject: saleId, data });
}

function short(value: unknown): unknown {
  if (value === null || typeof value === 'number' || typeof value === 'boolean') return value;
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > LOGGED_CHARS ? `${text.slice(0, LOGGED_CHARS)}…` : text;
}

/** Which version the caller knows; `any`: the sale must exist. */
type IfMatch = readonly number[] | 'any' | undefined;

/** edit: what the sale is to become, by what it is under the lock. What it throws, the caller gets. */
export type Ask =
  | { action: 'put'; sale: Sale; isDraft: boolean; ifMatch: IfMatch; isNew: boolean }
  | { action: 'patch' | 'stock'; saleId: string; ifMatch: IfMatch; edit: (found: SaleRecord) => SaleDocument }
  | { action: 'pause' | 'resume' | 'close'; saleId: string }
  | { action: 'call_off'; saleId: string; sku: string };

/**
 * changed: a sale that is not in Redis, in MySQL alone. unchanged: it is so already. recorded: Redis is to
 * decide. pending: an earlier change is to be completed first.
 */
export type Recorded =
  | { kind: 'created' }
  | { kind: 'changed' }
  | { kind: 'unchanged' }
  | { kind: 'recorded'; change: PendingChange }
  | { kind: 'pending'; change: PendingChange }
  | Refusal;

/** ended: the sale is closed or archived. conflict: it is of another version. fixed: a rule would break. */
export type Refusal =
  | { kind: 'unknown' }
  | { kind: 'ended' }
  | { kind: 'draft' }
  | { kind: 'rebuilding' }
  | { kind: 'conflict'; version: number | undefined }
  | { kind: 'fixed'; rule: FixedRule };

/**
 * stale: a newer change was decided, or another one under this number. sale-absent: Redis has lost the sale,
 * or it is being made again. closed: the sale had closed by Redis' clock.
 */
export type StockReply =
  | { kind: 'changed' }
  | { kind: 'stale' }
  | { kind: 'sale-absent' }
  | { kind: 'closed' }
  | { kind: 'below-committed'; sku: string; committed: number };

/** The part of the sale's stock in Redis that decides changes. */
export interface DecidingStock {
  /** @param isPending whether no process has finished it, by a read that begins with the call */
  change(change: PendingChange, isPending: () => Promise<boolean>): Promise<StockReply>;
  /** Undefined: Redis does not have the sale. */
  readDecided(saleId: string): Promise<DecidedSale | undefined>;
  read(saleId: string): Promise<{ skus: readonly StockCount[] } | undefined>;
}

/** Changes of one pass: each may be half a megabyte. While Redis is away there may be one for each sale. */
const PENDING_AT_ONCE = 20;

/**
 * Takes over what Redis has decided, where MySQL has lost it.
 * @param known what the sale must have in MySQL, or nothing is done: its last change, as it was read there
 *   before Redis was read, or the epoch that Redis has
 * @returns whether MySQL had lost changes
 */
export function catchUp(
  pool: Pool,
  saleId: string,
  decided: DecidedSale,
  known: Partial<Pick<SaleRecord, 'changeNo' | 'changeId' | 'epoch'>> = {},
): Promise<boolean> {
  return inTransaction(pool, async (connection) => {
    const found = await lockSale(connection, saleId);
    if (!found || !isBehind(found, decided)) return false;
    const { changeNo = found.changeNo, changeId = found.changeId, epoch = found.epoch } = known;
    if (found.changeNo !== changeNo || found.changeId !== changeId || found.epoch !== epoch) return false;
    await takeOver(connection, found, decided);
    return true;
  });
}

/** Records what the shop asks for; a sale that is not in Redis is changed at once. Idempotent. */
export function record(pool: Pool, ask: Ask, decision: Decision): Promise<Recorded> {
  return inTransaction(pool, (connection) => recordIn(connection, ask, decision));
}

/** Records that the sale is put into Redis. @returns what is to be completed; undefined: nothing */
export function recordWarmUp(pool: Pool, saleId: string): Promise<PendingChange | undefined> {
  return inTransaction(pool, async (connection) => {
    const found = await lockSale(connection, saleId);
    assert(found, `no sale ${saleId}`);
    if (found.pendingNo !== undefined) return readChange(connection, saleId, found.pendingNo);
    if (found.isWarm || found.isDraft) return undefined;
    return insertChange(connection, found, found, 'warm_up', { actor: 'holdfast', reason: null });
  });
}

/** The changes that are recorded and not finished, of all processes. */
export function listPending(pool: Pool): Promise<PendingChange[]> {
  return selectPending(pool, 'TRUE ORDER BY RAND() LIMIT ?', [PENDING_AT_ONCE]);
}

/**
 * Lets Redis decide a change, and finishes it.
 * @returns undefined: Redis cannot decide it now; it stays pending
 * @throws when a store is away: it stays pending
 */
export async function complete(
  pool: Pool,
  change: PendingChange,
  stock: DecidingStock,
): Promise<ChangeEnd | undefined> {
  const isPending = async () => (await readEnd(pool, change)) === undefined;
  const reply = await stock.change(change, isPending);
  if (reply.kind === 'sale-absent') return undefined;
  // As a rule MySQL knows how it ended. Where it is pending still, MySQL had lost commits.
  const decided = reply.kind === 'stale' ? await stock.readDecided(change.saleId) : undefined;
  if (decided) await catchUp(pool, change.saleId, decided, change);
  // Where it is sold from, as the answer to the call shows it; MySQL's own counts lag behind.
  const live = await stock.read(change.saleId).catch(() => undefined);
  return inTransaction(pool, (connection) => finishChange(connection, change, reply, live?.skus));
}

/** Hides a sale that is settled, or a draft, from the list for good. Idempotent. */
export function archive(
  pool: Pool,
  saleId: string,
  decision: Decision,
): Promise<'archived' | 'unknown' | 'not-settled'> {
  return inTransaction(pool, async (connection) => {
    const found = await lockSale(connection, saleId);
    if (!found) return 'unknown';
    if (found.isArchived) return 'archived';
    if (!found.isSettled && !found.isDraft) return 'not-settled';
    await modify(
      connection,
      'UPDATE sales SET archived_at = NOW(3), version = version + 1 WHERE sale_id = ?',
      [saleId],
    );
    const subject = `sale ${saleId}`;
    await recordAction(connection, { ...decision, action: 'sale_archived', subject, detail: {} });
    return 'archived';
  });
}

async function recordIn(connection: Executor, ask: Ask, decision: Decision): Promise<Recorded> {
  const saleId = ask.action === 'put' ? ask.sale.saleId : ask.saleId;
  const found = await lockSale(connection, saleId);
  if (!found) return ask.action === 'put' ? create(connection, ask, decision) : { kind: 'unknown' };
  if (found.pendingNo !== undefined)
    return { kind: 'pending', change: await readChange(connection, saleId, found.pendingNo) };

  const conflict = { kind: 'conflict', version: found.version } as const;
  const isStale = 'ifMatch' in ask && !isMatched(ask.ifMatch, found.version);
  // Units that are added once more would count twice, so the version decides first.
  if (ask.action === 'stock' && isStale) return conflict;
  const target = targetOf(found, ask, await listCalledOff(connection, found));
  if (ask.action === 'put' && ask.isNew) return conflict;
  // Before the version: what is asked for has been done, maybe by the same call whose answer was lost.
  if (compareDocuments(found, target).length === 0) return { kind: 'unchanged' };
  if (isStale) return conflict;
  if (found.isDraft && !('ifMatch' in ask)) return { kind: 'draft' };
  if (found.isArchived || found.hasClosed || (!found.isDraft && found.nowMs >= found.sale.closesAtMs))
    return { kind: 'ended' };
  if (!found.isWarm) {
    await writeDocument(connection, target);
    await noteChange(connection, found, target, ask.action, decision);
    return { kind: 'changed' };
  }
  // What the other actions change is theirs to change: a close may move an opening that has just come.
  const isDocument = ask.action === 'put' || 'edit' in ask;
  const rule = isDocument ? findFixedRule(found, target, found.nowMs) : undefined;
  if (rule) return { kind: 'fixed', rule };
  // What the rebuild reads must not change under it.
  if (found.isRebuilding) return { kind: 'rebuilding' };
  const change = await insertChange(connection, found, target, ask.action, decision);
  // Before Redis may sell them, or the orders could not be stored.
  await raiseTotals(connection, target.sale);
  return { kind: 'recorded', change };
}

async function create(
  connection: Executor,
  ask: Extract<Ask, { action: 'put' }>,
  decision: Decision,
): Promise<Recorded> {
  const { sale, ifMatch } = ask;
  if (ifMatch !== undefined) return { kind: 'conflict', version: undefined };
  // Another may be first, and is found then.
  if (!(await insertSale(connection, ask))) return recordIn(connection, ask, decision);
  const [subject, detail] = [`sale ${sale.saleId}`, { skus: sale.skus.length }];
  await recordAction(connection, { ...decision, action: 'sale_created', subject, detail });
  return { kind: 'created' };
}

/**
 * What the sale becomes. What is sent has neither the pause nor what was called off: only their own calls
 * decide that.
 */
function targetOf(found: SaleRecord, ask: Ask, calledOff: string[]): SaleDocument {
  const { sale, isDraft, nowMs } = found;
  switch (ask.action) {
    case 'put':
    case 'patch':
    case 'stock': {
      const sent = ask.action === 'put' ? ask : ask.edit(found);
      const skus = markCalledOff(sent.sale.skus, calledOff);
      return { sale: { ...sent.sale, skus, paused: sale.paused }, isDraft: sent.isDraft };
    }
    case 'call_off':
      return { sale: { ...sale, skus: markCalledOff(sale.skus, [...calledOff, ask.sku]) }, isDraft };
    case 'pause':
      return { sale: { ...sale, paused: true }, isDraft };
    case 'resume':
      return { sale: { ...sale, paused: false }, isDraft };
    case 'close': {
      if (nowMs >= sale.closesAtMs) return { sale, isDraft };
      // A window that has not begun is moved into the past, so that no answer names an opening to come.
      return {
        sale: { ...sale, opensAtMs: Math.min(sale.opensAtMs, nowMs - 1), closesAtMs: nowMs },
        isDraft,
      };
    }
    default:
      return ask satisfies never;
  }
}

function markCalledOff(skus: Sale['skus'], calledOff: readonly string[]): Sale['skus'] {
  return skus.map((item) => (calledOff.includes(item.sku) ? { ...item, calledOff: true } : item));
}

function isMatched(ifMatch: IfMatch, version: number): boolean {
  return ifMatch === undefined || ifMatch === 'any' || ifMatch.includes(version);
}
