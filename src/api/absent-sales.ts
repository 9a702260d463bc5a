/**
 * Sales that Redis does not have, as MySQL knows them: a shopper must not be told that a sale does not exist
 * which the shop was told is scheduled.
 */

import { saleStateOf } from '../domain/sale.ts';
import type { ShownSale } from '../stores/mysql/sales/shown-sales.ts';
import type { Stores } from '../stores/open.ts';
import { unavailable } from './http/problem.ts';
import type { AbsentSale } from './orders/place-order.ts';

/** Sales that are looked up at once. Anyone may ask for any id, and must not take MySQL from the others. */
const LOOKS_MAX = 8;

export type FindAbsentSale = ReturnType<typeof createAbsentSales>;

export function createAbsentSales(sales: Pick<Stores['sales'], 'read'>) {
  const looks = new Map<string, Promise<AbsentSale>>();

  async function look(saleId: string): Promise<AbsentSale> {
    try {
      return judge(await sales.read(saleId));
    } catch (error) {
      throw unavailable('sale_unavailable', 'The sale cannot be read right now.', error);
    } finally {
      looks.delete(saleId);
    }
  }

  /**
   * Those who ask for the same sale at the same time share one look.
   * @throws Problem when MySQL does not answer, or is asked for too many sales
   */
  return function findAbsentSale(saleId: string): Promise<AbsentSale> {
    const shared = looks.get(saleId);
    if (shared) return shared;
    if (looks.size >= LOOKS_MAX)
      throw unavailable('sale_unavailable', 'The sale cannot be read right now.', undefined);
    const own = look(saleId);
    looks.set(saleId, own);
    return own;
  };
}

function judge(found: ShownSale | undefined): AbsentSale {
  if (!found || found.isDraft || found.isArchived || found.isCleaned) return { kind: 'unknown' };
  const { sale, stock, isWarm, nowMs } = found;
  if (nowMs >= sale.closesAtMs) return { kind: 'unknown' };
  if (isWarm) return { kind: 'lost' };
  const { refundRestoresLimit: _, skus, ...rules } = sale;
  const counts = new Map(stock.map((count) => [count.sku, count]));
  const none = { available: 0, held: 0, sold: 0 };
  // It does not sell before it is in Redis, whatever its times say.
  const state = saleStateOf(rules, nowMs) === 'paused' ? 'paused' : 'scheduled';
  const shown = skus.map((item) => ({ ...none, ...item, ...counts.get(item.sku) }));
  return { kind: 'scheduled', sale: { ...rules, state, skus: shown }, isDue: nowMs >= sale.opensAtMs };
}
