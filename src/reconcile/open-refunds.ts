/**
 * Walks the payments that are to go back, and makes those due whose refund workflow runs no more. One that
 * runs is left alone, for a refund may take weeks.
 */

import type { OrderEngine } from '../engine/order-engine.ts';
import type { OpenRefund } from '../stores/mysql/money/refund-claims.ts';
import type { Stores } from '../stores/open.ts';
import { refundWorkflowId } from '../workflows/contract.ts';
import type { Step } from './report.ts';
import { findIdle, walkPages, type Walk } from './walk.ts';

export interface OpenRefundsDeps extends Stores {
  engine: Pick<OrderEngine, 'isRunning'>;
}

export function createOpenRefundsStep(deps: OpenRefundsDeps): Step {
  const { refundClaims, engine, places, repairs, log } = deps;
  const walk: Walk<Pick<OpenRefund, 'paymentId'>, OpenRefund> = {
    name: 'open-refunds',
    list: refundClaims.listOpen,
    format: ({ paymentId }) => String(paymentId),
    parse: (place) => (/^\d+$/.test(place) ? { paymentId: Number(place) } : undefined),
  };

  async function repair(page: readonly OpenRefund[]): Promise<number> {
    const begun = page.filter(({ isWaiting }) => isWaiting);
    const idle = await findIdle(engine, begun.map(refundWorkflowId));
    const lost = begun.filter((refund) => idle.has(refundWorkflowId(refund)));
    const requeued = await refundClaims.requeue(lost.map(({ paymentId }) => paymentId));
    for (const paymentId of requeued) {
      const subject = `payment ${paymentId}`;
      await repairs.record({ action: 'workflow_lost', subject, before: 'none', after: 'due' });
    }
    return requeued.length;
  }

  return async (signal) => {
    const report = { looked: 0, repaired: 0, parked: 0 };
    for await (const page of walkPages(walk, places, signal)) {
      report.looked += page.length;
      report.repaired += await repair(page);
    }
    if (report.repaired > 0) log.warn(report, 'refunds had no workflow; they get one again');
    return report;
  };
}
