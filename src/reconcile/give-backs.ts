/**
 * Walks the refunds, and makes the payments due whose stock or limit has not come back and whose refund
 * workflow runs no more. Redis keeps a mark of what has come back for good, which tells it.
 */

import type { OrderEngine } from '../engine/order-engine.ts';
import type { ReturningPayment } from '../stores/mysql/money/returned-units.ts';
import type { Stores } from '../stores/open.ts';
import { returnMark } from '../stores/redis/keys.ts';
import { refundWorkflowId } from '../workflows/contract.ts';
import type { Step } from './report.ts';
import { findIdle, walkPages, type Walk } from './walk.ts';

export interface GiveBacksDeps extends Stores {
  engine: Pick<OrderEngine, 'isRunning'>;
}

interface Place {
  refundId: number;
}

interface Listed extends Place {
  paymentId: number;
}

export function createGiveBacksStep(deps: GiveBacksDeps): Step {
  const { returnedUnits, engine, places, repairs, log } = deps;
  const walk: Walk<Place, Listed> = {
    name: 'give-backs',
    list: returnedUnits.list,
    format: ({ refundId }) => String(refundId),
    parse: (place) => (/^\d+$/.test(place) ? { refundId: Number(place) } : undefined),
  };

  async function repair(page: readonly Listed[]): Promise<number> {
    const listed = [...new Set(page.map(({ paymentId }) => paymentId))];
    const seen = await findUnfinished(deps, listed);
    const idle = await findIdle(engine, seen.map(refundWorkflowId));
    // One that ran at the first look may have given back since, and ended.
    const unfinished = await findUnfinished(
      deps,
      seen.filter((payment) => idle.has(refundWorkflowId(payment))).map(({ paymentId }) => paymentId),
    );
    let repaired = 0;
    for (const { paymentId } of unfinished) {
      if (!(await returnedUnits.requeue(paymentId))) continue;
      const subject = `payment ${paymentId}`;
      await repairs.record({ action: 'workflow_lost', subject, before: 'none', after: 'due' });
      repaired += 1;
    }
    return repaired;
  }

  return async (signal) => {
    const report = { looked: 0, repaired: 0, parked: 0 };
    for await (const page of walkPages(walk, places, signal)) {
      report.looked += page.length;
      report.repaired += await repair(page);
    }
    if (report.repaired > 0) log.warn(report, 'refunds had given nothing back; they get a workflow again');
    return report;
  };
}

/** Those that have given back less than they are to. */
async function findUnfinished(
  { returnedUnits, saleMends, saleStock }: GiveBacksDeps,
  paymentIds: readonly number[],
): Promise<ReturningPayment[]> {
  const payments = await returnedUnits.read(paymentIds);
  const unfinished: ReturningPayment[] = [];
  for (const saleId of new Set(payments.map((payment) => payment.saleId))) {
    // Data that are made again get all marks from MySQL.
    if ((await saleStock.checkLife(saleId)).kind !== 'well') continue;
    const ofSale = payments.filter((payment) => payment.saleId === saleId);
    const returned = await saleMends.readReturned(saleId, ofSale.flatMap(marksOf));
    for (const payment of ofSale) {
      const isBack = marksOf(payment).every((mark) => returned.has(mark));
      if (!payment.isBooked || !isBack) unfinished.push(payment);
    }
  }
  return unfinished;
}

function marksOf({ orderNo, returns }: ReturningPayment): string[] {
  return returns.map(({ what, part }) => returnMark(orderNo, what, part));
}
