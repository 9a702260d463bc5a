/**
 * Walks the open orders by their deadlines, and makes those due whose workflow has begun and runs no more: an
 * operator has terminated or deleted it, or Temporal has lost it. An order long past its deadline whose
 * workflow runs is parked. What is due, claimed or not begun is backlog and left alone.
 */

import type { OrderEngine } from '../engine/order-engine.ts';
import type { OpenOrder, OrderPlace } from '../stores/mysql/orders/order-claims.ts';
import type { Stores } from '../stores/open.ts';
import type { Step, StepReport } from './report.ts';
import { findIdle, MANY_PAGES_MAX, walkPages, type Walk } from './walk.ts';

/** Parked orders that have ended, unparked in one run. There are hardly any. */
const UNPARKED_MAX = 100;

export interface OpenOrdersDeps extends Stores {
  engine: Pick<OrderEngine, 'isRunning' | 'listRunning'>;
}

/** @param pagesMax of one run */
export function createOpenOrdersStep(deps: OpenOrdersDeps, pagesMax = MANY_PAGES_MAX): Step {
  const { orderClaims, engine, places, repairs, log } = deps;
  const walk: Walk<OrderPlace, OpenOrder> = {
    name: 'open-orders',
    list: orderClaims.listOpen,
    format: ({ deadlineMs, orderNo }) => `${deadlineMs} ${orderNo}`,
    parse(place) {
      const [, deadlineMs, orderNo] = /^(\d+) (.+)$/.exec(place) ?? [];
      return orderNo === undefined ? undefined : { orderNo, deadlineMs: Number(deadlineMs) };
    },
    pagesMax,
  };

  async function handle(page: readonly OpenOrder[], report: StepReport): Promise<void> {
    const begun = page.filter(({ isWaiting }) => isWaiting);
    // Temporal's list follows late, and may be a store of its own. So what it lacks is asked for one by one,
    // and what it has only while no order is overdue by it.
    const listed = await engine.listRunning(begun.map(({ orderNo }) => orderNo));
    const doubted = begun.filter(({ orderNo, isOverdue }) => isOverdue || !listed.has(orderNo));
    const idle = await findIdle(
      engine,
      doubted.map(({ orderNo }) => orderNo),
    );
    for (const orderNo of await orderClaims.requeue([...idle])) {
      await repairs.record({ action: 'workflow_lost', subject: orderNo, before: 'none', after: 'due' });
      report.repaired += 1;
    }
    for (const { orderNo, isOverdue } of begun) {
      if (!isOverdue || idle.has(orderNo)) continue;
      if (await orderClaims.parkStuck(orderNo)) report.parked += 1;
    }
    report.looked += page.length;
  }

  return async (signal) => {
    const report = { looked: 0, repaired: 0, parked: 0 };
    await orderClaims.unparkEnded(UNPARKED_MAX);
    for await (const page of walkPages(walk, places, signal)) await handle(page, report);
    if (report.repaired > 0) log.warn(report, 'open orders had no workflow; they get one again');
    if (report.parked > 0) log.error(report, 'orders are long past their deadline, and their workflow runs');
    return report;
  };
}
