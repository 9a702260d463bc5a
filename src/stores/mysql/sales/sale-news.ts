/**
 * What is announced of sales, each once: under the lock of the sale's row it is checked again, marked, and
 * written as an event.
 */

import type { ShopEventType } from '../../../domain/event.ts';
import { snapshotSale, shopStateOf } from '../../../domain/sale-snapshot.ts';
import type { StockCount } from '../../../domain/sale.ts';
import { inTransaction, modify, type Pool, type PoolConnection } from '../connection.ts';
import { lockSale, selectSales, type SaleRecord } from '../rows/sale-rows.ts';
import { recordShopEvent } from '../rows/shop-events.ts';

/**
 * Sales that are looked after at once, those that open last first. No shop has so many on; what is older and
 * never settles, because an operator has yet to decide on its last order, gives way.
 */
const UNSETTLED_MAX = 200;

export type SaleNews = ReturnType<typeof createSaleNews>;

export function createSaleNews(pool: Pool) {
  /** @returns whether it was announced now */
  const announce = (
    saleId: string,
    type: ShopEventType,
    {
      isDue,
      mark,
      stock,
    }: {
      isDue: (found: SaleRecord) => boolean;
      /** Assignments to the sale's columns. */
      mark: string;
      /** As Redis counts it; by default MySQL's. */
      stock?: readonly StockCount[] | undefined;
    },
  ): Promise<boolean> =>
    inTransaction(pool, async (connection) => {
      const found = await lockSale(connection, saleId);
      // A change that is pending may yet move its end, or its stock.
      if (!found || found.pendingNo !== undefined || !isDue(found)) return false;
      await modify(connection, `UPDATE sales SET ${mark} WHERE sale_id = ?`, [saleId]);
      await record(connection, found, type, stock ?? found.stock);
      return true;
    });

  return {
    /** Sales that open within so long, or have opened, and are not settled. */
    listUnsettled: (aheadMs: number): Promise<SaleRecord[]> =>
      selectSales(
        pool,
        `settled_at IS NULL AND opens_at <= NOW(3) + INTERVAL ? * 1000 MICROSECOND AND NOT draft
         ORDER BY opens_at DESC LIMIT ?`,
        [aheadMs, UNSETTLED_MAX],
      ),

    announceOpened: (saleId: string, stock: readonly StockCount[]): Promise<boolean> =>
      announce(saleId, 'sale.opened', {
        isDue: (found) => !found.hasOpened && shopStateOf(found) === 'open',
        mark: 'opened_at = NOW(3)',
        stock,
      }),

    /** @param count how often it was announced before, as it was read before the stock was */
    announceSoldOut: (saleId: string, count: number, stock: readonly StockCount[]): Promise<boolean> =>
      announce(saleId, 'sale.sold_out', {
        isDue: ({ soldOut }) => !soldOut.isAnnounced && soldOut.count === count,
        mark: 'sold_out_at = NOW(3), sold_out_count = sold_out_count + 1',
        stock,
      }),

    /** Units are available again, so the sale may sell out once more. */
    async noteAvailable(saleId: string, count: number): Promise<void> {
      await modify(
        pool,
        'UPDATE sales SET sold_out_at = NULL WHERE sale_id = ? AND sold_out_at IS NOT NULL AND sold_out_count = ?',
        [saleId, count],
      );
    },

    /** @param stock undefined: Redis does not have the sale, and is not to have it */
    announceClosed: (saleId: string, stock: readonly StockCount[] | undefined): Promise<boolean> =>
      announce(saleId, 'sale.closed', {
        isDue: (found) => !found.hasClosed && !found.isDraft && found.nowMs >= found.sale.closesAtMs,
        mark: 'closed_at = NOW(3)',
        stock,
      }),

    /** Call it when nothing is held in Redis either. */
    announceSettled: (saleId: string): Promise<boolean> =>
      announce(saleId, 'sale.settled', {
        isDue: (found) => found.hasClosed && !found.isSettled && found.stock.every(({ held }) => held === 0),
        mark: 'settled_at = NOW(3)',
      }),
  };
}

function record(
  connection: PoolConnection,
  found: SaleRecord,
  type: ShopEventType,
  stock: readonly StockCount[],
): Promise<void> {
  const { saleId } = found.sale;
  return recordShopEvent(connection, {
    type,
    saleId,
    subject: saleId,
    data: { sale: snapshotSale(found, stock) },
  });
}
