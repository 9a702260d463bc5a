/** Shows an order's life as moments in their order, each with the store that knows of it. */

import { formatMoney } from '../domain/money.ts';
import { orderDeadlineMs, type Order } from '../domain/order.ts';
import type { WorkflowRun } from '../engine/workflow-runs.ts';
import type { MysqlLife } from '../stores/mysql/ops/order-life.ts';
import type { OrderLife } from './order-life.ts';
import { formatTime } from './terminal.ts';

export interface Moment {
  at: Date;
  from: 'Redis' | 'MySQL' | 'Temporal' | 'provider' | 'operator';
  text: string;
}

/** The oldest first; what happened in the same millisecond stays in the order of its way. */
export function storyOf({ mysql, redis, temporal, orderNo }: OrderLife): Moment[] {
  const reserved = redis.kind === 'answered' ? redis.life.reserved?.order : undefined;
  const order = mysql.stored?.order ?? reserved;
  const runs = temporal.kind === 'answered' ? temporal.life : [];
  const moments = [
    ...(order ? [reservationMoment(order)] : []),
    ...eventMoments(mysql.events),
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
function eventMoments(events: MysqlLife['events']): Moment[] {
  return events.map((event, i) => {
    const before = events[i - 1];
    const news = [
      ...(event.status === before?.status ? [] : [i === 0 ? `stored: ${event.status}` : event.status]),
      ...(event.payment === (before?.payment ?? 'none') ? [] : [`payment ${event.payment}`]),
      ...(event.reason === (before?.reason ?? null) || event.reason === null
        ? []
        : [`to end: ${event.reason}`]),
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

function endingMoments({ stored }: MysqlLife): Moment[] {
  const at = stored?.end_begun_at;
  if (!at) return [];
  const text = 'its time to pay was over and no workflow had begun: it is ended without one';
  return [{ at, from: 'MySQL', text }];
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
