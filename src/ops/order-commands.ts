/** `ops order`: what each store and Temporal know of an order, and what that means. */

import type { Command } from 'commander';
import { z } from 'zod';
import { listWorkflowRuns, type WorkflowRun } from '../engine/order-engine.ts';
import { messageOf } from '../log.ts';
import { formatMoney } from '../money/payment.ts';
import type { Order } from '../orders/content.ts';
import { readRedisLife, type RedisLife } from '../orders/life.redis.ts';
import { readMysqlLife, type MysqlLife } from '../orders/life.sql.ts';
import { expectedHold, parseOrderNo, type OrderState, orderDeadlineMs, isFinal } from '../orders/order.ts';
import type { ParkedEntry } from '../parked/work.sql.ts';
import { formatSaleShard } from '../redis/keys.ts';
import { refundWorkflowId } from '../workflows/contract.ts';
import type { Parts } from './parts.ts';
import type { Shell } from './parts.ts';
import {
  asRead,
  orderNo as parseOrderNoArgument,
  UsageError,
  OpsError,
  formatTime,
  formatAge,
  formatFields,
  hang,
} from './terminal.ts';

const DECIDE =
  'the rules have decided what they can: send the money back with `ops refund`, or settle it by hand and resolve';
const STEP =
  'mend what the last error names; the step goes on trying by itself, `ops parked retry` has it tried at once';

const ADVICE: Record<string, string> = {
  step_failing: STEP,
  refund_slow: 'ask the provider; the refund ends here by itself when it ends there',
  refund_unclear:
    'look the refund up at the provider: the entry ends with it; where it never arrives, have the amount refunded once more',
  refund_refused:
    'mend what the provider names, then `ops parked retry`; or have the refund withdrawn, and pay back by hand only then: it is sent again when the provider takes it',
  no_order_named: DECIDE,
  wrong_amount: DECIDE,
  reversed: 'decide whether the units may be sold again: `ops return-stock`, or resolve to leave them sold',
  reversed_before_applied: DECIDE,
  refund_failed_later: 'the refund is tried again by itself; see why it failed at the provider',
  too_much_reversed: 'ask the provider why more went back than was paid, and resolve when that is settled',
  undecided: 'bring the sale back to Redis; the payment is matched or refunded after that',
  order_damaged: DECIDE,
  order_lost: 'inform the shopper that the order is lost; money for it goes back by itself; then resolve',
  order_inconsistent:
    'put right what was changed by hand; the entry ends when row, events and bookings agree',
  stock_unexplained: 'put right the order that contradicts itself; the entry ends when the books agree',
  sale_not_compared: 'see the reason; the entry ends when the stores are compared again',
  order_not_ours: DECIDE,
  paid_order_refused: 'see why MySQL refuses the order, then `ops parked retry`',
  workflow_stuck: 'see in the Web UI why its workflow does not go on; terminate it, and it is started again',
  order_refused: 'see why MySQL refuses the order, then `ops parked retry`',
  delivery_failing:
    "mend the shop's endpoint, then `ops parked retry`, or replay by the API; a later event of the order may have gone",
  endpoint_gone: 'where the endpoint is to go on, `ops parked retry` enables it; else remove it by the API',
  outbox_entry_unreadable: 'where its order is whole again in Redis, `ops parked retry`; else resolve',
};

export function adviceOn({ cause, parkedId }: ParkedEntry): string {
  const what =
    ADVICE[cause] ?? 'see the reason; `ops parked retry` tries again, `ops parked resolve` ends it';
  return `${what} (entry ${parkedId})`;
}

// The whole life of one order, gathered from all stores; a store that is away is named, not waited for.

/** What a store has; `away`: why it did not answer. */
type Answer<T> = { kind: 'answered'; life: T } | { kind: 'away'; why: string };

interface OrderLife {
  orderNo: string;
  mysql: MysqlLife;
  /** Undefined in it: Redis does not have the order. */
  redis: Answer<RedisLife>;
  /** Runs of the order's workflow and of its payments' refund workflows. */
  temporal: Answer<WorkflowRun[]>;
}

/** @throws when MySQL is away: it has the truth */
async function readOrderLife(parts: Parts, orderNo: string): Promise<OrderLife> {
  const saleShard = parseOrderNo(orderNo);
  if (!saleShard) throw new UsageError(`no order number: ${orderNo}`);
  const [mysql, redis] = await Promise.all([
    readMysqlLife(parts.pool(), orderNo, formatSaleShard(saleShard)),
    ask(async () => readRedisLife(await parts.redis(), orderNo)),
  ]);
  const workflowIds = [orderNo, ...mysql.payments.map(refundWorkflowId)];
  const temporal = await ask(async () => {
    const client = await parts.temporal();
    return (await Promise.all(workflowIds.map((workflowId) => listWorkflowRuns(client, workflowId)))).flat();
  });
  return { orderNo, mysql, redis, temporal };
}

async function ask<T>(read: () => Promise<T>): Promise<Answer<T>> {
  try {
    return { kind: 'answered', life: await read() };
  } catch (error) {
    return { kind: 'away', why: messageOf(error) };
  }
}

/** Undefined: no store has the order. */
function stateOf({ mysql, redis }: OrderLife): OrderState | undefined {
  if (mysql.stored) return mysql.stored.state;
  return redis.kind === 'answered' ? redis.life.reserved?.state : undefined;
}

// Shows an order's life as moments in their order, each with the store that knows of it.

interface Moment {
  at: Date;
  from: 'Redis' | 'MySQL' | 'Temporal' | 'provider' | 'operator';
  text: string;
}

/** The oldest first; what happened in the same millisecond stays in the order of its way. */
function storyOf({ mysql, redis, temporal, orderNo }: OrderLife): Moment[] {
  const reserved = redis.kind === 'answered' ? redis.life.reserved?.order : undefined;
  const order = mysql.stored?.order ?? reserved;
  const runs = temporal.kind === 'answered' ? temporal.life : [];
  const moments = [
    ...(order ? [reservationMoment(order)] : []),
    ...eventMoments(mysql.events, order?.currency ?? ''),
    ...moneyMoments(mysql),
    ...runs.flatMap((run) => runMoments(run, run.workflowId === orderNo ? 'its workflow' : run.workflowId)),
    ...startMoments(mysql, runs),
    ...endingMoments(mysql),
    ...parkedMoments(mysql),
    ...mysql.actions.map(({ actor, action, reason, occurred_at: at }): Moment => ({
      at,
      from: 'operator',
      text: `${actor}: ${action.replaceAll('_', ' ')}${reason === null ? '' : `, because: ${reason}`}`,
    })),
  ];
  return moments.toSorted((a, b) => a.at.getTime() - b.at.getTime());
}

function reservationMoment(order: Order): Moment {
  const { currency, reference } = order;
  const lines = [
    ...order.items.map(({ sku, quantity }) => `${quantity} × ${sku}`),
    ...(order.charges ?? []).map(({ name, amount }) => `${name} ${formatMoney(amount, currency)}`),
  ];
  const [reservedOn] = formatTime(new Date(order.reservedAtMs)).split(' ');
  const deadline = formatTime(new Date(orderDeadlineMs(order))).replace(`${reservedOn} `, '');
  const what = lines.length === 0 ? '' : `${lines.join(', ')} for `;
  const named = reference === undefined ? '' : `, the shop's ${reference}`;
  return {
    at: new Date(order.reservedAtMs),
    from: 'Redis',
    text: `reserved: ${what}${formatMoney(order.total, currency)}, payable until ${deadline}${named}`,
  };
}

/** Each change says what is new in it. */
function eventMoments(events: MysqlLife['events'], currency: string): Moment[] {
  return events.map((event, i) => {
    const before = events[i - 1];
    const news = [
      ...(event.status === before?.status ? [] : [i === 0 ? `stored: ${event.status}` : event.status]),
      ...(event.payment === (before?.payment ?? 'none') ? [] : [`payment ${event.payment}`]),
      ...(event.refunded === (before?.refunded ?? 0)
        ? []
        : [`${formatMoney(event.refunded, currency)} back`]),
      ...(event.reason === (before?.reason ?? null) || event.reason === null
        ? []
        : [`to end: ${event.reason}`]),
      ...(event.extended_until && event.extended_until.getTime() !== before?.extended_until?.getTime()
        ? [`payable until ${formatTime(event.extended_until)}`]
        : []),
    ];
    const text = `${news.join(', ') || 'changed'} (version ${event.version})`;
    return { at: event.occurred_at, from: 'MySQL', text };
  });
}

function moneyMoments({ sessions, notices, payments, reversals }: MysqlLife): Moment[] {
  return [
    ...sessions.map((session): Moment => ({
      at: session.created_at,
      from: 'provider',
      text: `payment session ${session.session_id} at ${session.provider}, now ${session.status}`,
    })),
    ...notices.map((notice): Moment => ({
      at: notice.received_at,
      from: 'provider',
      text: `notice ${notice.kind} (${notice.provider_event_id})`,
    })),
    ...payments.flatMap(
      ({ paymentId, providerPaymentId, amount, currency, receivedAt, appliedAt }): Moment[] => [
        {
          at: receivedAt,
          from: 'MySQL',
          text: `payment ${paymentId} of ${formatMoney(amount, currency)} recorded (${providerPaymentId})`,
        },
        ...(appliedAt
          ? [{ at: appliedAt, from: 'MySQL' as const, text: `payment ${paymentId} pays for the order` }]
          : []),
      ],
    ),
    ...reversals.flatMap(({ created_at: first, updated_at: last, ...reversal }): Moment[] => {
      const what = `${reversal.kind} of ${formatMoney(reversal.amount, reversal.currency)}`;
      const known = `${what} known (${reversal.provider_reversal_id})`;
      const end: Moment = { at: last, from: 'provider', text: `${what}: ${reversal.status}` };
      if (first.getTime() === last.getTime())
        return [{ ...end, text: `${end.text} (${reversal.provider_reversal_id})` }];
      return [{ at: first, from: 'provider', text: known }, end];
    }),
  ];
}

function runMoments({ startedAt, closedAt, status, moments }: WorkflowRun, name: string): Moment[] {
  return [
    { at: startedAt, from: 'Temporal', text: `${name} started` },
    ...moments.map(({ at, text }): Moment => ({ at, from: 'Temporal', text: `${name}: ${text}` })),
    ...(closedAt
      ? [{ at: closedAt, from: 'Temporal' as const, text: `${name} ended: ${status.toLowerCase()}` }]
      : []),
  ];
}

/** What MySQL has noted of the start, where Temporal itself no longer has it. */
function startMoments({ stored }: MysqlLife, runs: readonly WorkflowRun[]): Moment[] {
  const at = stored?.workflow_started_at;
  return at && runs.length === 0 ? [{ at, from: 'MySQL', text: 'its workflow was started' }] : [];
}

/** Without a workflow: its payment pages are closed first where it has any, or MySQL alone ended it. */
function endingMoments({ stored, events }: MysqlLife): Moment[] {
  if (!stored) return [];
  const end = events.find(({ status }) => isFinal(status));
  const at = stored.end_begun_at ?? (stored.mayRun ? undefined : end?.occurred_at);
  const what = stored.state.status === 'paid' ? 'paid' : 'ended';
  return at ? [{ at, from: 'MySQL', text: `no workflow had begun: it is ${what} without one` }] : [];
}

function parkedMoments({ parked }: MysqlLife): Moment[] {
  return parked.flatMap((entry) => {
    const { parkedId, kind, cause, reason, lastError, times, settledBy } = entry;
    const moment = (at: Date, text: string): Moment => ({ at, from: 'MySQL', text });
    const name = `${kind.replace('_', ' ')} parked as ${parkedId}`;
    return [
      moment(entry.firstAt, `${name} (${cause}): ${reason}`),
      ...(times > 1 ? [moment(entry.lastAt, `${parkedId}, ${times} times by now: ${lastError}`)] : []),
      ...(entry.resolvedAt
        ? [moment(entry.resolvedAt, `${parkedId} resolved by ${settledBy ?? 'rules'}`)]
        : []),
    ];
  });
}

// Compares what the stores say of an order now, and derives what comes next. Pure rules over its life.

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

function judge(life: OrderLife, nowMs: number): Verdict {
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
  if (redis.kind === 'away') return `not asked: ${redis.why}`;
  const { reserved, hold, isInOutbox, isDamaged, epoch } = redis.life;
  if (epoch === undefined) return 'does not have the sale';
  if (isDamaged) return 'has the order, but not whole';
  if (!reserved) return 'does not have the order';
  const queue = isInOutbox ? '; in the outbox' : '';
  return `${describeState(reserved)}; stock ${hold ?? 'without a hold'}${queue}`;
}

function describeTemporal({ temporal, orderNo }: OrderLife, nowMs: number): string {
  if (temporal.kind === 'away') return `not asked: ${temporal.why}`;
  const runs = temporal.life;
  if (!runs.some(({ workflowId }) => workflowId === orderNo) && runs.length === 0)
    return 'has no workflow of the order';
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
  if (redis.kind === 'away' || !mysql.stored) return [];
  const { state } = mysql.stored;
  const { reserved, hold, isDamaged } = redis.life;
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
  const { mysql, redis, temporal } = life;
  const state = stateOf(life);
  if (!state || isFinal(state.status) || temporal.kind === 'away' || redis.kind === 'away') return [];
  const isDue = mysql.stored !== undefined && mysql.stored.engine_due_at !== null;
  // Without a workflow it is ended at its deadline.
  const isLeft = mysql.stored?.workflow_started_at === null;
  const isMoving = isDue || isLeft || redis.life.isInOutbox || isRunning(life);
  return isMoving ? [] : ['The order is open, and no process works on it.'];
}

function isRunning({ temporal, orderNo }: OrderLife): boolean {
  if (temporal.kind === 'away') return false;
  return temporal.life.some(({ workflowId, closedAt }) => workflowId === orderNo && !closedAt);
}

function whatNext(life: OrderLife, problems: readonly string[], nowMs: number): string[] {
  const { mysql } = life;
  const open = mysql.parked.filter(({ resolvedAt }) => resolvedAt === null);
  const parked = open.map(
    ({ parkedId, cause }) =>
      `Parked as ${parkedId} (${cause}): \`ops parked show ${parkedId}\` says what to do.`,
  );
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
    : 'The reconciliation mends or parks this within minutes; `ops reconcile` runs it now.';
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

// `ops order show`: the whole life of one order from all stores, as a story.

const showOptions = z.object({ json: z.boolean() });

export function addOrderCommands(program: Command, { terminal, run }: Shell): void {
  const order = program.command('order').description('one order');
  asRead(order.command('show'))
    .description('its whole life from all stores, as a story, and what comes next')
    .argument('<orderNo>', 'as the shopper has it', parseOrderNoArgument)
    .addHelpText('after', '\nExample:\n  ops order show demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG')
    .action((number: string, options: unknown) =>
      run(async (parts) => {
        const life = await readOrderLife(parts, number);
        if (isUnknown(life)) throw new OpsError(`No store has an order ${number}.`);
        const [story, verdict] = [storyOf(life), judge(life, Date.now())];
        terminal.out(
          showOptions.parse(options).json
            ? JSON.stringify(
                { orderNo: number, state: stateOf(life) ?? null, story, ...verdict },
                undefined,
                2,
              )
            : print(life, story, verdict, terminal.columns),
        );
        return verdict.problems.length === 0;
      }),
    );
}

/** A store that is away might have it. */
function isUnknown({ mysql, redis, temporal }: OrderLife): boolean {
  const { stored, payments, parked } = mysql;
  if (stored || payments.length + parked.length > 0) return false;
  if (redis.kind === 'away' || temporal.kind === 'away') return false;
  return !redis.life.reserved && !redis.life.isDamaged && temporal.life.length === 0;
}

function print(life: OrderLife, story: readonly Moment[], verdict: Verdict, columns: number): string {
  const order =
    life.mysql.stored?.order ??
    (life.redis.kind === 'answered' ? life.redis.life.reserved?.order : undefined);
  const lines = [hang('', `Order ${life.orderNo}${order ? ` of ${order.userId}` : ''}`, columns), ''];
  let day = '';
  for (const { at, from, text } of story) {
    const [date = '', time = ''] = formatTime(at).split(' ');
    if (date !== day) lines.push(`${date} (UTC)`);
    day = date;
    lines.push(hang(`  ${time}  ${from.padEnd(8)}  `, text, columns));
  }
  const says = verdict.says.map(({ store, text }): [string, string] => [store, text]);
  lines.push('', 'Now', formatFields(says, columns), '');
  lines.push(verdict.problems.length === 0 ? 'The stores agree.' : 'Something is not as it should be:');
  for (const text of verdict.problems) lines.push(hang('  - ', text, columns));
  for (const text of verdict.next) lines.push(hang('', text, columns));
  return lines.join('\n');
}
