/** Rows of sales and their SKUs: read whole, and written whole. */

import { z } from 'zod';
import type { ShopEventType } from '../events/event.ts';
import { modify, selectRows, type Executor } from '../mysql/connection.ts';
import { jsonText } from '../orders/content.ts';
import { metadataSchema } from '../orders/content.ts';
import { verificationJson, type SaleDocument, type Sale, type StockCount } from './sale.ts';

export interface ShopEvent {
  type: ShopEventType;
  /** Null: it concerns no sale, or none that is known. */
  saleId: string | null;
  /** The id of what it is about: the sale's, or the parked entry's. */
  subject: string;
  /** A snapshot of its subject, as consumers get it: nothing of a person but the numbers of their orders. */
  data: Record<string, unknown>;
}

/**
 * Records an event in the transaction of the change itself, so that neither exists without the other. It is
 * delivered some time after the commit.
 */
export async function recordShopEvent(executor: Executor, event: ShopEvent): Promise<void> {
  await modify(executor, 'INSERT INTO shop_events (type, sale_id, subject, data) VALUES (?, ?, ?, ?)', [
    event.type,
    event.saleId,
    event.subject,
    JSON.stringify(event.data),
  ]);
}

/** What is held and sold, within the totals of this document. */
export function withTotals(counts: readonly StockCount[], { skus }: Sale): StockCount[] {
  const totals = new Map(skus.map(({ sku, total }) => [sku, total]));
  return counts.flatMap((count) => {
    const total = totals.get(count.sku);
    return total === undefined ? [] : [{ ...count, total, available: total - count.held - count.sold }];
  });
}

const metadataJson = jsonText(metadataSchema).nullable();

const saleRow = z.object({
  sale_id: z.string(),
  name: z.string(),
  currency: z.string(),
  opens_at: z.date(),
  closes_at: z.date(),
  payment_window_ms: z.int(),
  paused: z.coerce.boolean(),
  refund_restores_limit: z.coerce.boolean(),
  expiring_notice_ms: z.int().nullable(),
  limit_per_user: z.int().nullable(),
  max_unpaid_holds: z.int().nullable(),
  address_purchases_per_minute: z.int().nullable(),
  ticket_required: z.coerce.boolean(),
  verification: verificationJson.nullable(),
  reference: z.string().nullable(),
  metadata: metadataJson,
  called_off: z.enum(['sale', 'skus']).nullable(),
  draft: z.coerce.boolean(),
  version: z.int(),
  change_no: z.int(),
  change_id: z.string(),
  pending_change_no: z.int().nullable(),
  epoch: z.int(),
  warmed_up_at: z.date().nullable(),
  rebuilding: z.coerce.boolean(),
  redis_cleaned_at: z.date().nullable(),
  sold_out_at: z.date().nullable(),
  sold_out_count: z.int(),
  opened_at: z.date().nullable(),
  closed_at: z.date().nullable(),
  settled_at: z.date().nullable(),
  archived_at: z.date().nullable(),
  now: z.date(),
});

const calledOffRow = z.object({ sku: z.string() });
const skuRow = z.object({
  sale_id: z.string(),
  sku: z.string(),
  name: z.string(),
  unit_price: z.int(),
  limit_per_user: z.int().nullable(),
  reference: z.string().nullable(),
  metadata: metadataJson,
  called_off: z.coerce.boolean(),
  total: z.int(),
  held: z.int(),
  sold: z.int(),
});

const SALE_COLUMNS = `sale_id, name, currency, opens_at, closes_at, payment_window_ms, paused, refund_restores_limit, expiring_notice_ms,
  limit_per_user, max_unpaid_holds, address_purchases_per_minute, ticket_required, verification, reference, metadata, called_off, draft, version, change_no,
  change_id, pending_change_no, epoch,
  warmed_up_at, rebuilding_since IS NOT NULL AS rebuilding, redis_cleaned_at, sold_out_at, sold_out_count, opened_at, closed_at,
  settled_at, archived_at, NOW(3) AS now`;

/**
 * The sale's data in Redis are to be there: it was warmed up, and is not settled, which needs them, or not
 * long over. Its value is `WATCHED_AFTER_CLOSE_MS`.
 */
export const IS_WATCHED = `warmed_up_at IS NOT NULL AND redis_cleaned_at IS NULL
  AND (settled_at IS NULL OR closes_at > NOW(3) - INTERVAL ? * 1000 MICROSECOND)`;

/** A sale as MySQL has it. */
export interface SaleRecord extends SaleDocument {
  /** Of what the shop decided; grows with each change of it. */
  version: number;
  /** Of the last change that was recorded. */
  changeNo: number;
  /** Of the same; empty: of one from before changes had ids. */
  changeId: string;
  /** Of the one that is recorded and not decided yet. */
  pendingNo: number | undefined;
  epoch: number;
  /** It was put into Redis. */
  isWarm: boolean;
  /** Its data in Redis are being made again. */
  isRebuilding: boolean;
  /** Its data in Redis were removed for good. */
  isCleaned: boolean;
  /** For good, as a whole or in some SKUs; undefined: not. */
  calledOff: 'sale' | 'skus' | undefined;
  soldOut: { isAnnounced: boolean; count: number };
  hasOpened: boolean;
  hasClosed: boolean;
  isSettled: boolean;
  isArchived: boolean;
  stock: StockCount[];
  /** By MySQL's clock (Unix ms). */
  nowMs: number;
}

/**
 * The sales that fulfil the condition, each with its SKUs.
 * @param condition of `sales`, maybe with ORDER BY, LIMIT and FOR UPDATE
 */
export async function selectSales(
  reader: Executor,
  condition: string,
  values: unknown[],
): Promise<SaleRecord[]> {
  const rows = await selectRows(
    reader,
    saleRow,
    `SELECT ${SALE_COLUMNS} FROM sales WHERE ${condition}`,
    values,
  );
  if (rows.length === 0) return [];
  const skus = await readSkus(
    reader,
    rows.map((row) => row.sale_id),
  );
  return rows.map((row) =>
    toRecord(
      row,
      skus.filter((sku) => sku.sale_id === row.sale_id),
    ),
  );
}

/** @returns undefined when there is no such sale */
export async function readSale(reader: Executor, saleId: string): Promise<SaleRecord | undefined> {
  return (await selectSales(reader, 'sale_id = ?', [saleId]))[0];
}

/** Keeps all else from changing the sale, and orders from being stored, until the transaction ends. */
export async function lockSale(connection: Executor, saleId: string): Promise<SaleRecord | undefined> {
  return (await selectSales(connection, 'sale_id = ? FOR UPDATE', [saleId]))[0];
}

/** @returns whether the sale is new; one that exists is left as it is */
export async function insertSale(connection: Executor, document: SaleDocument): Promise<boolean> {
  const columns = ruleColumns(document);
  const created = await modify(
    connection,
    `INSERT INTO sales (sale_id, ${Object.keys(columns).join(', ')}) VALUES (?)
     ON DUPLICATE KEY UPDATE sale_id = sale_id`,
    [[document.sale.saleId, ...Object.values(columns)]],
  );
  if (created !== 1) return false;
  await upsertSkus(connection, document.sale, 'GREATEST(VALUES(total), held + sold)');
  return true;
}

/**
 * Writes what the shop decided. A total never falls below what is held and sold: where MySQL counts more than
 * Redis did, the reconciliation is to find it, and no change may wait for that.
 */
export async function writeDocument(connection: Executor, document: SaleDocument): Promise<void> {
  const { sale } = document;
  const columns = ruleColumns(document);
  const assignments = Object.keys(columns).map((column) => `${column} = ?`);
  await modify(connection, `UPDATE sales SET ${assignments.join(', ')} WHERE sale_id = ?`, [
    ...Object.values(columns),
    sale.saleId,
  ]);
  await upsertSkus(connection, sale, 'GREATEST(VALUES(total), held + sold)');
  await modify(
    connection,
    'DELETE FROM skus WHERE sale_id = ? AND sku NOT IN (?) AND held = 0 AND sold = 0',
    [sale.saleId, sale.skus.map(({ sku }) => sku)],
  );
}

/** Raises the totals that are to go up, and adds new SKUs; nothing else of the sale is changed. */
export function raiseTotals(connection: Executor, sale: Sale): Promise<void> {
  return upsertSkus(connection, sale, 'GREATEST(VALUES(total), total)', []);
}

const RULES = ['name', 'limit_per_user', 'reference', 'metadata', 'called_off', 'position', 'unit_price'];

/** In the order in which orders lock these rows, so that none deadlocks. */
async function upsertSkus(
  connection: Executor,
  { saleId, skus }: Sale,
  total: string,
  columns: readonly string[] = RULES,
): Promise<void> {
  const rows = skus.map((item, position) => [
    saleId,
    item.sku,
    item.name,
    item.unitPrice,
    item.limitPerUser,
    item.reference ?? null,
    item.metadata === undefined ? null : JSON.stringify(item.metadata),
    item.calledOff === true,
    item.total,
    position,
  ]);
  const updates = [`total = ${total}`, ...columns.map((column) => `${column} = VALUES(${column})`)];
  await modify(
    connection,
    `INSERT INTO skus (sale_id, sku, name, unit_price, limit_per_user, reference, metadata, called_off, total, position)
     VALUES ? ON DUPLICATE KEY UPDATE ${updates.join(', ')}`,
    [rows.toSorted(([, a], [, b]) => (String(a) < String(b) ? -1 : 1))],
  );
}

/** SKUs that are called off for good, also those that the sale does not have any more. */
export async function listCalledOff(
  reader: Executor,
  { sale: { saleId, skus }, calledOff }: SaleRecord,
): Promise<string[]> {
  const marked = skus.flatMap(({ sku, calledOff: isOff }) => (isOff ? [sku] : []));
  if (calledOff === undefined) return marked;
  const sql = 'SELECT sku FROM calling_offs WHERE sale_id = ?';
  return [...marked, ...(await selectRows(reader, calledOffRow, sql, [saleId])).map(({ sku }) => sku)];
}

function ruleColumns({ sale, isDraft }: SaleDocument): Record<string, unknown> {
  return {
    name: sale.name,
    currency: sale.currency,
    opens_at: new Date(sale.opensAtMs),
    closes_at: new Date(sale.closesAtMs),
    payment_window_ms: sale.paymentWindowMs,
    paused: sale.paused,
    refund_restores_limit: sale.refundRestoresLimit,
    expiring_notice_ms: sale.expiringNoticeMs ?? null,
    limit_per_user: sale.limitPerUser,
    max_unpaid_holds: sale.maxUnpaidHolds,
    address_purchases_per_minute: sale.addressPurchasesPerMinute,
    ticket_required: sale.ticketRequired,
    verification: sale.verification === undefined ? null : JSON.stringify(sale.verification),
    reference: sale.reference ?? null,
    metadata: sale.metadata === undefined ? null : JSON.stringify(sale.metadata),
    draft: isDraft,
  };
}

function readSkus(reader: Executor, saleIds: readonly string[]) {
  return selectRows(
    reader,
    skuRow,
    `SELECT sale_id, sku, name, unit_price, limit_per_user, reference, metadata, called_off, total, held, sold
     FROM skus
     WHERE sale_id IN (?) ORDER BY sale_id, position`,
    [saleIds],
  );
}

function toRecord(row: z.infer<typeof saleRow>, skus: readonly z.infer<typeof skuRow>[]): SaleRecord {
  const sale: Sale = {
    saleId: row.sale_id,
    name: row.name,
    currency: row.currency,
    opensAtMs: row.opens_at.getTime(),
    closesAtMs: row.closes_at.getTime(),
    paused: row.paused,
    paymentWindowMs: row.payment_window_ms,
    refundRestoresLimit: row.refund_restores_limit,
    ...(row.expiring_notice_ms !== null && { expiringNoticeMs: row.expiring_notice_ms }),
    limitPerUser: row.limit_per_user,
    maxUnpaidHolds: row.max_unpaid_holds,
    addressPurchasesPerMinute: row.address_purchases_per_minute,
    ticketRequired: row.ticket_required,
    ...(row.verification === null ? {} : { verification: row.verification }),
    ...shopData(row),
    skus: skus.map((sku) => ({
      sku: sku.sku,
      name: sku.name,
      unitPrice: sku.unit_price,
      total: sku.total,
      limitPerUser: sku.limit_per_user,
      ...shopData(sku),
      ...(sku.called_off ? { calledOff: true as const } : {}),
    })),
  };
  return {
    sale,
    isDraft: row.draft,
    version: row.version,
    changeNo: row.change_no,
    changeId: row.change_id,
    pendingNo: row.pending_change_no ?? undefined,
    epoch: row.epoch,
    isWarm: row.warmed_up_at !== null,
    isRebuilding: row.rebuilding,
    isCleaned: row.redis_cleaned_at !== null,
    calledOff: row.called_off ?? undefined,
    soldOut: { isAnnounced: row.sold_out_at !== null, count: row.sold_out_count },
    hasOpened: row.opened_at !== null,
    hasClosed: row.closed_at !== null,
    isSettled: row.settled_at !== null,
    isArchived: row.archived_at !== null,
    stock: skus.map(({ sku, total, held, sold }) => ({
      sku,
      total,
      available: total - held - sold,
      held,
      sold,
    })),
    nowMs: row.now.getTime(),
  };
}

function shopData({ reference, metadata }: Pick<z.infer<typeof saleRow>, 'reference' | 'metadata'>) {
  return { ...(reference === null ? {} : { reference }), ...(metadata === null ? {} : { metadata }) };
}
