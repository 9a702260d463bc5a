/** A sale as its shop sees it: in the answers of the back office, and in events. */

import type { SaleDocument } from './sale-change.ts';
import { SALE_STATES, saleStateOf, type Sale, type StockCount } from './sale.ts';

export const SHOP_SALE_STATES = ['draft', ...SALE_STATES, 'archived'] as const;
export type ShopSaleState = (typeof SHOP_SALE_STATES)[number];

/** @param nowMs by MySQL's clock */
export function shopStateOf({ sale, isDraft, isArchived, nowMs }: Snapshotted): ShopSaleState {
  if (isArchived) return 'archived';
  return isDraft ? 'draft' : saleStateOf(sale, nowMs);
}

interface Snapshotted extends SaleDocument {
  version: number;
  isArchived: boolean;
  nowMs: number;
}

/** @param stock of its SKUs; one that is not there has nothing held or sold */
export function snapshotSale(found: Snapshotted, stock: readonly StockCount[]) {
  const { sale, isDraft, version } = found;
  const state = shopStateOf(found);
  const counts = new Map(stock.map((count) => [count.sku, count]));
  const { opensAtMs, closesAtMs, skus, ...rules } = sale;
  return {
    ...rules,
    opensAt: new Date(opensAtMs).toISOString(),
    closesAt: new Date(closesAtMs).toISOString(),
    draft: isDraft,
    state,
    version,
    skus: skus.map((item) =>
      snapshotSku(item, counts.get(item.sku), sale.closesAtMs <= found.nowMs && !isDraft),
    ),
  };
}

/** What is available in a closed sale is unsold: no order can take it any more. */
function snapshotSku(item: Sale['skus'][number], count: StockCount | undefined, isClosed: boolean) {
  const { total, available, held, sold } = count ?? { ...item, available: item.total, held: 0, sold: 0 };
  return { ...item, total, available, held, sold, ...(isClosed ? { unsold: available } : {}) };
}
