/** Steps that find open orders and refunds whose workflow was lost, and make them due. */

import type { OrderEngine } from '../engine/order-engine.ts';
import type { ReturningPayment } from '../money/give-back-walk.sql.ts';
import type { OpenRefund } from '../money/refunds.sql.ts';
import type { OpenOrder, OrderCursor } from '../orders/claims.sql.ts';
import { returnMark } from '../redis/keys.ts';
import type { CallOffJob } from '../sales/calling-off.sql.ts';
import type { Stores } from '../stores/open.ts';
import { callOffWorkflowId, refundWorkflowId, type StepReport } from '../workflows/contract.ts';
import { findIdle, MANY_PAGES_MAX, walkPages, type Walk } from './walk.ts';

// Walks the open orders by their deadlines, and makes those due whose workflow has begun and runs no more:
// an operator has terminated or deleted it, or Temporal has lost it. An order long past its deadline whose
// workflow runs is parked. What is due, claimed or not begun is backlog and left alone.

/** Parked orders that have ended, unparked in one run. There are hardly any. */
const UNPARKED_MAX = 100;

export interface OpenOrdersDeps extends Stores {
  engine: Pick<OrderEngine, 'isRunning' | 'listRunning'>;
}

/** @param pagesMax of one run */
export async function mendOpenOrders(
  deps: OpenOrdersDeps,
  signal: AbortSignal,
  pagesMax = MANY_PAGES_MAX,
): Promise<StepReport> {
  const { orderClaims, cursors, log } = deps;
  const walk: Walk<OrderCursor, OpenOrder> = {
    name: 'open-orders',
    list: orderClaims.listOpen,
    format: ({ deadlineMs, orderNo }) => `${deadlineMs} ${orderNo}`,
    parse(cursor) {
      const [, deadlineMs, orderNo] = /^(\d+) (.+)$/.exec(cursor) ?? [];
      return orderNo === undefined ? undefined : { orderNo, deadlineMs: Number(deadlineMs) };
    },
    pagesMax,
  };
  const report = { looked: 0, repaired: 0, parked: 0 };
  await orderClaims.unparkEnded(UNPARKED_MAX);
  for await (const page of walkPages(walk, cursors, signal)) await mendOrders(deps, page, report);
  if (report.repaired > 0) log.warn(report, 'open orders had no workflow; they get one again');
  if (report.parked > 0) log.error(report, 'orders are long past their deadline, and their workflow runs');
  return report;
}

async function mendOrders(
  { orderClaims, engine, repairs }: OpenOrdersDeps,
  page: readonly OpenOrder[],
  report: StepReport,
): Promise<void> {
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

/** @param mend one page. @returns how many of it have their work begun again */
async function mendPages<P, T extends P>(
  walk: Walk<P, T>,
  { cursors }: Stores,
  signal: AbortSignal,
  mend: (page: readonly T[]) => Promise<number>,
): Promise<StepReport> {
  const report = { looked: 0, repaired: 0, parked: 0 };
  for await (const page of walkPages(walk, cursors, signal)) {
    report.looked += page.length;
    report.repaired += await mend(page);
  }
  return report;
}

// Walks the payments that are to go back, and makes those due whose refund workflow runs no more. One that
// runs is left alone, for a refund may take weeks.

interface RefundStepDeps extends Stores {
  engine: Pick<OrderEngine, 'isRunning'>;
}

export async function mendOpenRefunds(deps: RefundStepDeps, signal: AbortSignal): Promise<StepReport> {
  const { refundClaims, log } = deps;
  const walk: Walk<Pick<OpenRefund, 'paymentId'>, OpenRefund> = {
    name: 'open-refunds',
    list: refundClaims.listOpen,
    format: ({ paymentId }) => String(paymentId),
    parse: (cursor) => (/^\d+$/.test(cursor) ? { paymentId: Number(cursor) } : undefined),
  };
  const report = await mendPages(walk, deps, signal, (page) => mendRefunds(deps, page));
  if (report.repaired > 0) log.warn(report, 'refunds had no workflow; they get one again');
  return report;
}

async function mendRefunds(deps: RefundStepDeps, page: readonly OpenRefund[]): Promise<number> {
  const { refundClaims, engine, repairs } = deps;
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

// Walks the refunds, and makes the payments due whose stock or limit has not come back and whose refund
// workflow runs no more. Redis keeps a mark of what has come back for good, which tells it.

interface Listed {
  refundId: number;
  paymentId: number;
}

export async function mendGiveBacks(deps: RefundStepDeps, signal: AbortSignal): Promise<StepReport> {
  const { returnedUnits, log } = deps;
  const walk: Walk<Pick<Listed, 'refundId'>, Listed> = {
    name: 'give-backs',
    list: returnedUnits.list,
    format: ({ refundId }) => String(refundId),
    parse: (cursor) => (/^\d+$/.test(cursor) ? { refundId: Number(cursor) } : undefined),
  };
  const report = await mendPages(walk, deps, signal, (page) => mendReturns(deps, page));
  if (report.repaired > 0) log.warn(report, 'refunds had given nothing back; they get a workflow again');
  return report;
}

async function mendReturns(deps: RefundStepDeps, page: readonly Listed[]): Promise<number> {
  const { returnedUnits, engine, repairs } = deps;
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

/** Those that have given back less than they are to. */
async function findUnfinished(
  { returnedUnits, saleMends, saleStock }: RefundStepDeps,
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

// Begins the jobs again that call something off and whose workflow runs no more. They go on from MySQL.

export interface CallOffStepDeps extends Stores {
  engine: Pick<OrderEngine, 'isRunning' | 'startCallOff'>;
}

export async function mendCallingOffs(deps: CallOffStepDeps, signal: AbortSignal): Promise<StepReport> {
  const { callingOffs, log } = deps;
  const walk: Walk<Pick<CallOffJob, 'jobId'>, CallOffJob> = {
    name: 'callings-off',
    list: callingOffs.listOpenJobs,
    format: ({ jobId }) => jobId,
    parse: (jobId) => ({ jobId }),
  };
  const report = await mendPages(walk, deps, signal, (page) => mendJobs(deps, page));
  if (report.repaired > 0) log.warn(report, 'callings-off had no workflow; they get one again');
  return report;
}

async function mendJobs({ engine, repairs }: CallOffStepDeps, page: readonly CallOffJob[]): Promise<number> {
  const idle = await findIdle(engine, page.map(callOffWorkflowId));
  const lost = page.filter((job) => idle.has(callOffWorkflowId(job)));
  for (const job of lost) {
    await engine.startCallOff(job);
    const subject = `sale ${job.saleId}`;
    await repairs.record({ action: 'workflow_lost', subject, before: 'none', after: 'started' });
  }
  return lost.length;
}
