/** Sales as the back office sees them: as they are, and whether a change of them is pending. */

import type { ShopSaleState } from '../../../domain/sale-snapshot.ts';
import type { Sale, StockCount } from '../../../domain/sale.ts';
import type { Executor } from '../connection.ts';
import { selectSales, type SaleRecord } from '../rows/sale-rows.ts';
import { readChange } from './change-rows.ts';

export interface ShownSale extends SaleRecord {
  /** A change is recorded, and not made yet. */
  isChanging: boolean;
}

/** By MySQL's clock, as `shopStateOf` says it of one. */
export function conditionOf(state: ShopSaleState | undefined): string {
  const shown = 'archived_at IS NULL';
  const isOn = `${shown} AND NOT draft AND closes_at > NOW(3)`;
  switch (state) {
    case undefined:
      return shown;
    case 'draft':
      return `${shown} AND draft`;
    case 'archived':
      return 'archived_at IS NOT NULL';
    case 'closed':
      return `${shown} AND NOT draft AND closes_at <= NOW(3)`;
    case 'paused':
      return `${isOn} AND paused`;
    case 'scheduled':
      return `${isOn} AND NOT paused AND opens_at > NOW(3)`;
    case 'open':
      return `${isOn} AND NOT paused AND opens_at <= NOW(3)`;
    default:
      return state satisfies never;
  }
}

/** In a snapshot: the change that is pending must be of the same moment as the sale. */
export async function showSales(
  reader: Executor,
  condition: string,
  values: unknown[],
): Promise<ShownSale[]> {
  const found = await selectSales(reader, condition, values);
  const shown: ShownSale[] = [];
  for (const record of found) shown.push(await showSale(reader, record));
  return shown;
}

/** Totals that are to go up are raised before the change is made. */
async function showSale(reader: Executor, record: SaleRecord): Promise<ShownSale> {
  if (record.pendingNo === undefined) return { ...record, isChanging: false };
  const { former } = await readChange(reader, record.sale.saleId, record.pendingNo);
  return { ...record, ...former, stock: withTotals(record.stock, former.sale), isChanging: true };
}

/** What is held and sold, within the totals of this document. */
export function withTotals(counts: readonly StockCount[], { skus }: Sale): StockCount[] {
  const totals = new Map(skus.map(({ sku, total }) => [sku, total]));
  return counts.flatMap((count) => {
    const total = totals.get(count.sku);
    return total === undefined ? [] : [{ ...count, total, available: total - count.held - count.sold }];
  });
}
