/** The step that takes orders off the lists of their users' open ones that have ended without a script. */

import { isFinal } from '../orders/order.ts';
import { formatSaleShard, type SaleShard } from '../redis/keys.ts';
import { isDamaged } from '../redis/script.ts';
import type { Stores } from '../stores/open.ts';
import type { StepReport } from '../workflows/contract.ts';
import type { ListedOrder } from './holds.redis.ts';
import { inOneRun, MANY_PAGES_MAX } from './walk.ts';

/** Users of one page, each with at most twenty orders; as a rule one. */
const USERS_AT_ONCE = 250;
/** Orders looked up by one query. */
const ORDERS_AT_ONCE = 500;

export async function mendOpenLists(deps: Stores, signal: AbortSignal): Promise<StepReport> {
  const { holds, log } = deps;
  const report = { looked: 0, repaired: 0, parked: 0 };
  for (const shard of await holds.listShards()) {
    if (signal.aborted) break;
    try {
      await walkShard(deps, shard, report, signal);
    } catch (error) {
      if (!isDamaged(error)) throw error;
      // The list of one sale must not keep the others from being walked. A rebuild makes it anew.
      log.error({ err: error, ...shard }, 'the open orders of the users of a sale cannot be read');
    }
  }
  if (report.repaired > 0) log.warn(report, 'orders that have ended were listed as open');
  return report;
}

async function walkShard(deps: Stores, shard: SaleShard, report: StepReport, signal: AbortSignal) {
  const { holds, cursors } = deps;
  const walk = `open lists ${formatSaleShard(shard)}`;
  let cursor = (await cursors.read(walk)) ?? '0';
  const mayGoOn = inOneRun(MANY_PAGES_MAX, signal);
  while (mayGoOn()) {
    const page = await holds.scanOpen(shard, cursor, USERS_AT_ONCE);
    for (let from = 0; from < page.orders.length; from += ORDERS_AT_ONCE)
      report.repaired += await dropEnded(deps, page.orders.slice(from, from + ORDERS_AT_ONCE));
    report.looked += page.orders.length;
    ({ cursor } = page);
    await cursors.save(walk, cursor === '0' ? undefined : cursor);
    if (cursor === '0') return;
  }
}

/** A list is a hint for a refusal, so the log of actions gets no entry of it. */
async function dropEnded({ holds, repairs }: Stores, listed: readonly ListedOrder[]): Promise<number> {
  const states = await repairs.readStates(listed.map(({ orderNo }) => orderNo));
  let dropped = 0;
  for (const order of listed) {
    const state = states.get(order.orderNo);
    // One that MySQL does not know is open where Redis holds it.
    const mayHaveEnded = state === undefined || (state !== null && isFinal(state.status));
    if (mayHaveEnded && (await holds.dropOpen(order)) === 'dropped') dropped += 1;
  }
  return dropped;
}
