/** Whether the stores agree about an order, and what comes next. Pure rules over its life. */

import { formatAge } from '../../clock.ts';
import type { WorkflowRun } from '../../engine/order-engine.ts';
import { formatMoney } from '../../money/payment.ts';
import type { Order } from '../../orders/content.ts';
import type { RedisLife } from '../../orders/life.redis.ts';
import type { MysqlLife } from '../../orders/life.sql.ts';
import { expectedHold, isFinal, orderDeadlineMs, type OrderState } from '../../orders/order.ts';
import { adviceOn } from '../../parked/advice.ts';

/** The whole life of one order, gathered from all stores; a store that is away is named, not waited for. */
export interface OrderLife {
  orderNo: string;
  mysql: MysqlLife;
  /** Undefined, as the next: it did not answer. */
  redis: (RedisLife & { isInOutbox: boolean }) | undefined;
  /** Runs of the order's workflow and of its payments' refund workflows. */
  runs: WorkflowRun[] | undefined;
}

/** Undefined: no store has the order. */
export function stateOf({ mysql, redis }: OrderLife): OrderState | undefined {
  return mysql.stored?.state ?? redis?.reserved?.state;
}

interface Verdict {
  /** What each store says now, in a sentence. */
  says: { store: string; text: string }[];
  /** Where they contradict each other, or where something stands still; empty: they agree. */
  problems: string[];
  /** What happens next by itself, or what an operator is to do. */
  next: string[];
}

/** Stores follow each other within seconds; what was changed just now is no contradiction. */
const SETTLE_MS = 15_000;

export function judge(life: OrderLife, nowMs: number): Verdict {
  const problems = [...findContradictions(life), ...findStandstill(life)];
  return {
    says: [
      { store: 'MySQL', text: describeMysql(life, nowMs) },
      { store: 'Redis', text: describeRedis(life) },
      { store: 'Temporal', text: describeTemporal(life, nowMs) },
    ],
    problems,
    next: whatNext(life, problems, nowMs),
  };
}

function describeState({ order, state }: { order: Order; state: OrderState }): string {
  const { status, version, payment, reason, refunded = 0 } = state;
  const back = refunded === 0 ? '' : `, ${formatMoney(refunded, order.currency)} back`;
  return `${status}, payment ${payment}${back}${reason === null ? '' : ` (${reason})`}, version ${version}`;
}

function describeMysql({ mysql: { stored, payments } }: OrderLife, nowMs: number): string {
  if (!stored) return 'does not have the order';
  const due = stored.engine_due_at;
  const end = stored.state.status === 'paid' ? 'paid' : 'ended';
  const isWithout = isFinal(stored.state.status) && (stored.end_begun_at !== null || !stored.mayRun);
  const way = isWithout ? `; ${end} without a workflow` : '';
  const queue =
    due === null
      ? ''
      : due.getTime() <= nowMs
        ? '; due to reach its workflow'
        : '; to reach its workflow soon';
  const money = payments.map(({ paymentId, status }) => `; payment ${paymentId} ${status}`).join('');
  return describeState(stored) + way + queue + money;
}

function describeRedis({ redis }: OrderLife): string {
  if (!redis) return 'did not answer';
  const { reserved, hold, isInOutbox, isDamaged, epoch } = redis;
  if (epoch === undefined) return 'does not have the sale';
  if (isDamaged) return 'has the order, but not whole';
  if (!reserved) return 'does not have the order';
  const queue = isInOutbox ? '; in the outbox' : '';
  return `${describeState(reserved)}; stock ${hold ?? 'without a hold'}${queue}`;
}

function describeTemporal({ runs, orderNo }: OrderLife, nowMs: number): string {
  if (!runs) return 'did not answer';
  if (runs.length === 0) return 'has no workflow of the order';
  return runs.map((run) => describeRun(run, orderNo, nowMs)).join('; ');
}

function describeRun(
  { workflowId, status, startedAt, closedAt, pending }: WorkflowRun,
  orderNo: string,
  nowMs: number,
): string {
  const name = workflowId === orderNo ? '' : `${workflowId} `;
  if (closedAt)
    return `${name}${status.toLowerCase()} after ${formatAge(closedAt.getTime() - startedAt.getTime())}`;
  const steps = pending.map(({ name: step, attempt, lastError, nextTryAt }) => {
    const when = nextTryAt ? `, next try in ${formatAge(nextTryAt.getTime() - nowMs)}` : '';
    return `${step} at try ${attempt}${when}${lastError === undefined ? '' : ` after: ${lastError}`}`;
  });
  return `${name}running since ${formatAge(nowMs - startedAt.getTime())}${steps.length > 0 ? `, ${steps.join(', ')}` : ', waiting'}`;
}

function findContradictions(life: OrderLife): string[] {
  const { mysql, redis } = life;
  if (!redis || !mysql.stored) return [];
  const { state } = mysql.stored;
  const { reserved, hold, isDamaged } = redis;
  if (isDamaged) return ['Redis has lost a part of the order.'];
  // The projection of an ended order expires after a day, and its hold with it.
  if (!reserved) return isFinal(state.status) ? [] : ['The order is open, and Redis holds nothing for it.'];
  const expected = expectedHold(state.status);
  return [
    ...(reserved.state.version > state.version ? ['Redis shows a newer version than MySQL has.'] : []),
    ...(reserved.state.version < state.version ? ['Redis shows an older version than MySQL has.'] : []),
    ...(hold === expected
      ? []
      : [`The stock is ${hold ?? 'without a hold'} in Redis, and should be ${expected}.`]),
  ];
}

/** An order that is not final has a process that works on it, or waits in a queue. */
function findStandstill(life: OrderLife): string[] {
  const { mysql, redis, runs } = life;
  const state = stateOf(life);
  if (!state || isFinal(state.status) || !runs || !redis) return [];
  const isDue = mysql.stored !== undefined && mysql.stored.engine_due_at !== null;
  // Without a workflow it is ended at its deadline.
  const isLeft = mysql.stored?.workflow_started_at === null;
  const isMoving = isDue || isLeft || redis.isInOutbox || isRunning(life);
  return isMoving ? [] : ['The order is open, and no process works on it.'];
}

function isRunning({ runs = [], orderNo }: OrderLife): boolean {
  return runs.some(({ workflowId, closedAt }) => workflowId === orderNo && !closedAt);
}

function whatNext(life: OrderLife, problems: readonly string[], nowMs: number): string[] {
  const { mysql } = life;
  const open = mysql.parked.filter(({ resolvedAt }) => resolvedAt === null);
  const parked = open.map(({ parkedId, cause }) => `Parked as ${parkedId} (${cause}): ${adviceOn(cause)}`);
  const refunds = mysql.payments
    .filter(({ status }) => status === 'refund_due')
    .map(({ paymentId }) => `Payment ${paymentId} goes back to the payer.`);
  return [
    ...parked,
    ...refunds,
    ...(problems.length > 0 ? [mend(life, nowMs)] : [goesOn(life, nowMs)]),
  ].filter((text) => text !== '');
}

function mend({ mysql }: OrderLife, nowMs: number): string {
  const last = Math.max(0, ...mysql.events.map(({ occurred_at: at }) => at.getTime()));
  return nowMs - last < SETTLE_MS
    ? 'It changed just now: look again in some seconds.'
    : 'The reconciliation mends or parks this within minutes. Staff can have it run now.';
}

function goesOn(life: OrderLife, nowMs: number): string {
  const state = stateOf(life);
  if (!state) return '';
  if (isFinal(state.status)) {
    return life.mysql.payments.some(({ status }) => status === 'refund_due') ? '' : 'Nothing is left to do.';
  }
  if (state.status === 'queued') return 'A relay stores it; within a second where a worker runs.';
  const stored = life.mysql.stored;
  if (stored?.end_begun_at) return 'It is cancelled without a workflow, once its payment pages are closed.';
  if (state.reason !== null) return 'Its workflow cancels it.';
  const order = stored?.order;
  const leftMs = order ? orderDeadlineMs(order, state) - nowMs : 0;
  if (stored?.workflow_started_at === null && !isRunning(life))
    return leftMs > 0
      ? `The shopper may pay for ${formatAge(leftMs)} more; then it is cancelled, by its workflow or without one.`
      : 'Its time to pay is over: it is cancelled without a workflow.';
  return leftMs > 0
    ? `The shopper may pay for ${formatAge(leftMs)} more; then its workflow cancels it.`
    : 'Its time to pay is over: its workflow cancels it when its own window ends.';
}
