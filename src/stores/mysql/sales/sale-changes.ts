/**
 * Changes of sales. MySQL is the truth of what the shop decided, and Redis is sold from, so a change of a
 * sale that is in Redis takes three steps: it is recorded here, with the totals that go up; Redis decides
 * whether it can be made; and it is settled here, with all else. A process that dies in between leaves a
 * pending change, which any other completes. There is at most one for a sale.
 */

import assert from 'node:assert/strict';
import {
  compareDocuments,
  findFixedRule,
  isBehind,
  type DecidedSale,
  type FixedRule,
  type SaleDocument,
} from '../../../domain/sale-change.ts';
import type { Sale, StockCount } from '../../../domain/sale.ts';
import { inTransaction, modify, type Executor, type Pool } from '../connection.ts';
import { recordAction, type Decision } from '../rows/audit-log.ts';
import { insertSale, lockSale, raiseTotals, writeDocument, type SaleRecord } from '../rows/sale-rows.ts';
import { insertChange, readChange, readEnd, selectPending, type PendingChange } from './change-rows.ts';
import { noteChange, settleChange, takeOver, type Settled } from './settle-change.ts';

/** Which version the caller knows; `any`: the sale must exist. */
type IfMatch = readonly number[] | 'any' | undefined;

export type Ask =
  | { action: 'put'; sale: Sale; isDraft: boolean; ifMatch: IfMatch; isNew: boolean }
  | { action: 'pause' | 'resume' | 'close'; saleId: string };

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
  /** @param isPending whether no process has settled it, by a read that begins with the call */
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

/** The changes that are recorded and not settled, of all processes. */
export function listPending(pool: Pool): Promise<PendingChange[]> {
  return selectPending(pool, 'TRUE ORDER BY RAND() LIMIT ?', [PENDING_AT_ONCE]);
}

/**
 * Lets Redis decide a change, and settles it.
 * @returns undefined: Redis cannot decide it now; it stays pending
 * @throws when a store is away: it stays pending
 */
export async function complete(
  pool: Pool,
  change: PendingChange,
  stock: DecidingStock,
): Promise<Settled | undefined> {
  const isPending = async () => (await readEnd(pool, change)) === undefined;
  const reply = await stock.change(change, isPending);
  if (reply.kind === 'sale-absent') return undefined;
  // As a rule MySQL knows how it ended. Where it is pending still, MySQL had lost commits.
  const decided = reply.kind === 'stale' ? await stock.readDecided(change.saleId) : undefined;
  if (decided) await catchUp(pool, change.saleId, decided, change);
  // Where it is sold from, as the answer to the call shows it; MySQL's own counts lag behind.
  const live = await stock.read(change.saleId).catch(() => undefined);
  return inTransaction(pool, (connection) => settleChange(connection, change, reply, live?.skus));
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

  const target = targetOf(found, ask);
  if (ask.action === 'put' && ask.isNew) return { kind: 'conflict', version: found.version };
  // Before the version: what is asked for has been done, maybe by the same call whose answer was lost.
  if (compareDocuments(found, target).length === 0) return { kind: 'unchanged' };
  if (ask.action === 'put' && !isMatched(ask.ifMatch, found.version))
    return { kind: 'conflict', version: found.version };
  if (found.isDraft && ask.action !== 'put') return { kind: 'draft' };
  if (found.isArchived || found.hasClosed || (!found.isDraft && found.nowMs >= found.sale.closesAtMs))
    return { kind: 'ended' };
  if (!found.isWarm) {
    await writeDocument(connection, target);
    await noteChange(connection, found, target, ask.action, decision);
    return { kind: 'changed' };
  }
  const rule = findFixedRule(found, target, found.nowMs);
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
  const detail = { skus: sale.skus.length };
  await recordAction(connection, {
    ...decision,
    action: 'sale_created',
    subject: `sale ${sale.saleId}`,
    detail,
  });
  return { kind: 'created' };
}

/** What the sale becomes. The pause is not part of what `put` sends: only its own calls begin and end it. */
function targetOf({ sale, isDraft, nowMs }: SaleRecord, ask: Ask): SaleDocument {
  switch (ask.action) {
    case 'put':
      return { sale: { ...ask.sale, paused: sale.paused }, isDraft: ask.isDraft };
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

function isMatched(ifMatch: IfMatch, version: number): boolean {
  return ifMatch === undefined || ifMatch === 'any' || ifMatch.includes(version);
}
