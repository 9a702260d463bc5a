/**
 * Finds free orders that MySQL has lost with its last commits: no provider's book tells of them. Redis lists
 * those that were sold within a day; what MySQL does not know goes back into the outbox, and is stored again.
 */

import { PROJECTION_TTL_MS } from '../limits.ts';
import { parseOrderNo } from '../orders/order.ts';
import { formatSaleShard, wholeSale, type SaleShard } from '../redis/keys.ts';
import { isDamaged } from '../redis/script.ts';
import type { Stores } from '../stores/open.ts';
import type { StepReport } from '../workflows/contract.ts';
import { formatHeldOrder, parseHeldOrder, type HeldOrder } from './holds.redis.ts';
import { MANY_PAGES_MAX, walkPages } from './walk.ts';

/** Orders of one look without a cursor: a page of Redis and a look-up by primary keys, some milliseconds. */
const PAGE_SIZE = 500;

/** @param pagesMax of each sale in one run */
export async function mendFreeOrders(
  deps: Stores,
  signal: AbortSignal,
  pagesMax = MANY_PAGES_MAX,
): Promise<StepReport> {
  const { holds, saleMends, cursors, log } = deps;
  const report = { looked: 0, repaired: 0, parked: 0 };
  for (const shard of await holds.listShards()) {
    if (signal.aborted) break;
    try {
      // Until then Redis has the order itself.
      await holds.trimFree(shard, (await saleMends.readTimeMs(shard.saleId)) - PROJECTION_TTL_MS);
      const walk = {
        name: `free orders ${formatSaleShard(shard)}`,
        list: (after: HeldOrder | undefined, limit: number) => holds.listFree(shard, limit, after),
        format: formatHeldOrder,
        parse: parseHeldOrder,
        pagesMax,
      };
      for await (const page of walkPages(walk, cursors, signal)) {
        report.looked += page.length;
        for (const orderNo of await listLost(deps, page)) await requeue(deps, orderNo, report);
      }
    } catch (error) {
      if (!isDamaged(error)) throw error;
      // Something else is in the place of the list, and the list is lost.
      log.error({ err: error, ...shard }, 'the free orders of a sale cannot be read; their list begins anew');
      await holds.removeFree(shard);
    }
  }
  if (report.repaired > 0) log.warn(report, 'MySQL had lost free orders; they are stored again');
  return report;
}

/** Whether MySQL lacks a free order of the sale that is to be stored again: its units are not to be sold. */
export async function hasLostFreeOrder(deps: Stores, saleId: string, signal: AbortSignal): Promise<boolean> {
  const shard: SaleShard = wholeSale(saleId);
  let after: HeldOrder | undefined;
  do {
    signal.throwIfAborted();
    const page: HeldOrder[] = await deps.holds.listFree(shard, PAGE_SIZE, after);
    if ((await listLost(deps, page)).length > 0) return true;
    after = page.length === PAGE_SIZE ? page.at(-1) : undefined;
  } while (after);
  return false;
}

/** Not those that MySQL refuses, and that are for an operator. */
async function listLost({ repairs }: Stores, page: readonly HeldOrder[]): Promise<string[]> {
  const orderNos = page.map(({ orderNo }) => orderNo).filter((orderNo) => parseOrderNo(orderNo));
  // An order is listed after MySQL had it.
  const states = await repairs.readStates(orderNos);
  const lost = orderNos.filter((orderNo) => !states.has(orderNo));
  const refused = await repairs.listRefusedPaid(lost);
  return lost.filter((orderNo) => !refused.has(orderNo));
}

/** A relay stores it as paid, as Redis shows it, and takes its entry off. */
async function requeue({ holds, repairs }: Stores, orderNo: string, report: StepReport): Promise<void> {
  try {
    const before = await holds.readEntry(orderNo);
    const after = await holds.requeue(orderNo, before);
    if (after === 'requeued') {
      await repairs.record({ action: 'order_requeued', subject: orderNo, before, after });
      report.repaired += 1;
    } else if (after !== 'moved') {
      await repairs.parkOrder(orderNo, 'order_lost', `it was free and sold, and is ${after} in Redis`);
      report.parked += 1;
    }
  } catch (error) {
    if (!isDamaged(error)) throw error;
    await repairs.parkOrder(orderNo, 'order_damaged', `Redis cannot work on it: ${String(error)}`);
    report.parked += 1;
  }
}
