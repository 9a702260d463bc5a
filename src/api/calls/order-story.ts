/** The whole story of an order: what every store, the provider, staff and endpoints know of it, by time. */

import { z } from 'zod';
import { formatTime } from '../../clock.ts';
import type { WorkflowRun } from '../../engine/order-engine.ts';
import { formatMoney } from '../../money/payment.ts';
import type { Refund } from '../../money/rows.sql.ts';
import { orderStateSchema, type Order } from '../../orders/content.ts';
import { readRedisLife } from '../../orders/life.redis.ts';
import { readMysqlLife, type MysqlLife } from '../../orders/life.sql.ts';
import {
  isFinal,
  orderDeadlineMs,
  parseOrderNo,
  type OrderNoParts,
  type OrderState,
} from '../../orders/order.ts';
import type { LineDelivery } from '../../push/deliveries.sql.ts';
import { formatSaleShard } from '../../redis/keys.ts';
import { inTime } from '../../status/board.ts';
import { refundWorkflowId } from '../../workflows/contract.ts';
import { reply } from '../http/answer.ts';
import { shownOrderNo, time } from '../http/replies.ts';
import { adminCall, type AdminCalls, type BackOffice, ofOrder } from './call.ts';
import { judge, stateOf, type OrderLife } from './order-verdict.ts';

/** Redis answers in milliseconds, and Temporal in some tenths of a second. */
const ANSWER_WITHIN_MS = 5_000;
/** Refund workflows that Temporal is asked about. An order has a payment or two; more are made up. */
const REFUND_WORKFLOWS_MAX = 5;

const momentReply = z.strictObject({
  at: time.describe('When it happened.'),
  from: z
    .enum(['Redis', 'MySQL', 'Temporal', 'provider', 'operator', 'endpoint'])
    .describe('Who knows of it.'),
  what: z
    .enum([
      'reservation',
      'event',
      'session',
      'notice',
      'payment',
      'reversal',
      'refund',
      'parked',
      'decision',
      'delivery',
      'workflow',
    ])
    .describe('What it is a moment of.'),
  id: z
    .string()
    .nullable()
    .meta({
      description: "The id of that: an event's, a payment's, a workflow's; null: it has none.",
      examples: [null],
    }),
  text: z.string().meta({ description: 'What happened, in words.', examples: ['It was paid.'] }),
});
type Moment = Omit<z.infer<typeof momentReply>, 'at'> & { at: Date };

export const orderStoryReply = z
  .strictObject({
    orderNo: shownOrderNo,
    userId: z
      .string()
      .nullable()
      .meta({ description: 'Whose it is; null: no store has the order whole.', examples: ['alice'] }),
    state: orderStateSchema
      .omit({ extendedUntilMs: true })
      .strict()
      .nullable()
      .describe('Its state; null: no store has one.'),
    workflowId: z.string().meta({
      description: 'The id that its workflow has in Temporal, or would have.',
      examples: ['demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG'],
    }),
    hasWorkflow: z.boolean().describe('Whether a workflow of it began, as far as MySQL and Temporal know.'),
    story: z
      .array(momentReply)
      .describe('All moments, the oldest first: at most the first 100 of each kind.'),
    says: z
      .array(
        z.strictObject({
          store: z.string().meta({ description: 'Which store.', examples: ['MySQL'] }),
          text: z
            .string()
            .meta({ description: 'What it says of the order now.', examples: ['paid, version 2'] }),
        }),
      )
      .describe('What each store says now.'),
    problems: z
      .array(z.string())
      .meta({ description: 'Where the stores contradict each other; empty: they agree.', examples: [[]] }),
    next: z
      .array(z.string())
      .meta({ description: 'What comes next by itself, or what staff are to do.', examples: [[]] }),
  })
  .meta({ id: 'OrderStory', description: 'The whole story of an order.' });
export type OrderStoryReply = z.infer<typeof orderStoryReply>;

export const storyCalls = {
  'GET /v1/admin/orders/:orderNo/story': adminCall({
    id: 'getOrderStory',
    does: 'All that happened to an order as one list by time, whether the stores agree, and what comes next',
    scope: 'orders:read',
    params: ofOrder,
    replies: { 200: orderStoryReply },
    away: 'status_unavailable',
    refuses: { unknown: 'order_not_found' },
    async answer(office, { params: { orderNo } }) {
      const story = await readStory(office, orderNo);
      return story ? reply(story) : { kind: 'unknown' };
    },
  }),
} satisfies AdminCalls;

async function readStory(office: BackOffice, orderNo: string): Promise<OrderStoryReply | undefined> {
  const parts = parseOrderNo(orderNo);
  if (!parts) return undefined;
  const [life, refunds, deliveries] = await Promise.all([
    readLife(office, orderNo, parts),
    office.refunds.readRefundsOf(orderNo),
    office.deliveries.listOfLine(orderNo),
  ]);
  if (isUnknown(life)) return undefined;
  const state = stateOf(life);
  return {
    orderNo,
    userId: orderOf(life)?.userId ?? null,
    state: state ? viewState(state) : null,
    workflowId: orderNo,
    hasWorkflow:
      (life.mysql.stored?.workflow_started_at ?? null) !== null ||
      life.runs?.some(({ workflowId }) => workflowId === orderNo) === true,
    story: storyOf(life, refunds, deliveries).map(({ at, ...moment }) => ({
      at: at.toISOString(),
      ...moment,
    })),
    ...judge(life, Date.now()),
  };
}

function viewState(state: OrderState) {
  const { extendedUntilMs: _, ...shown } = state;
  return shown;
}

/** @throws when MySQL is away: it has the truth */
async function readLife(office: BackOffice, orderNo: string, shard: OrderNoParts): Promise<OrderLife> {
  const { pool, holds, engine, log } = office;
  const ask = <T>(store: string, read: () => Promise<T>): Promise<T | undefined> =>
    inTime(read(), ANSWER_WITHIN_MS).catch((error: unknown) => {
      log.warn({ err: error, orderNo, store }, 'the story of an order lacks what a store knows');
      return undefined;
    });
  const [mysql, redis] = await Promise.all([
    readMysqlLife(pool, orderNo, formatSaleShard(shard)),
    ask('Redis', async () => {
      const [life, [place]] = await Promise.all([
        readRedisLife(office.redis, orderNo),
        holds.look(shard, [orderNo]),
      ]);
      return { ...life, isInOutbox: place === 'waits' };
    }),
  ]);
  const refunds = mysql.payments.slice(0, REFUND_WORKFLOWS_MAX).map(refundWorkflowId);
  const runs = await ask('Temporal', async () =>
    (await Promise.all([orderNo, ...refunds].map(engine.listRuns))).flat(),
  );
  return { orderNo, mysql, redis, runs };
}

const orderOf = ({ mysql, redis }: OrderLife): Order | undefined =>
  mysql.stored?.order ?? redis?.reserved?.order;

/** A store that is away might have it. */
function isUnknown({ mysql, redis, runs }: OrderLife): boolean {
  const { stored, payments, parked } = mysql;
  if (stored || payments.length + parked.length > 0 || !redis || !runs) return false;
  return !redis.reserved && !redis.isDamaged && runs.length === 0;
}

/** The oldest first; what happened in the same millisecond stays in the order of its way. */
function storyOf(life: OrderLife, refunds: readonly Refund[], deliveries: readonly LineDelivery[]): Moment[] {
  const { mysql, runs = [], orderNo } = life;
  const order = orderOf(life);
  const moments = [
    ...(order ? [reservationMoment(order)] : []),
    ...eventMoments(orderNo, mysql.events, order?.currency ?? ''),
    ...moneyMoments(mysql),
    ...refunds.flatMap((refund) => refundMoments(refund, mysql.payments)),
    ...runs.flatMap((run) => runMoments(run, run.workflowId === orderNo ? 'its workflow' : run.workflowId)),
    ...startMoments(mysql, runs),
    ...endingMoments(mysql),
    ...parkedMoments(mysql),
    ...mysql.actions.map(({ actor, action, reason, occurred_at: at }): Moment => ({
      at,
      from: 'operator',
      what: 'decision',
      id: null,
      text: `${actor}: ${action.replaceAll('_', ' ')}${reason === null ? '' : `, because: ${reason}`}`,
    })),
    ...deliveries.map(deliveryMoment),
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
    what: 'reservation',
    id: null,
    text: `reserved: ${what}${formatMoney(order.total, currency)}, payable until ${deadline}${named}`,
  };
}

/** Each change says what is new in it. */
function eventMoments(orderNo: string, events: MysqlLife['events'], currency: string): Moment[] {
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
    const id = `${orderNo}.${event.version}`;
    return { at: event.occurred_at, from: 'MySQL', what: 'event', id, text };
  });
}

function moneyMoments({ sessions, notices, payments, reversals }: MysqlLife): Moment[] {
  return [
    ...sessions.map((session): Moment => ({
      at: session.created_at,
      from: 'provider',
      what: 'session',
      id: session.session_id,
      text: `payment session ${session.session_id} at ${session.provider}, now ${session.status}`,
    })),
    ...notices.map((notice): Moment => ({
      at: notice.received_at,
      from: 'provider',
      what: 'notice',
      id: notice.provider_event_id,
      text: `notice ${notice.kind} (${notice.provider_event_id})`,
    })),
    ...payments.flatMap(({ paymentId, providerPaymentId, amount, currency, receivedAt, appliedAt }) => {
      const of = { from: 'MySQL', what: 'payment', id: String(paymentId) } as const;
      const recorded = `payment ${paymentId} of ${formatMoney(amount, currency)} recorded (${providerPaymentId})`;
      return [
        { ...of, at: receivedAt, text: recorded },
        ...(appliedAt ? [{ ...of, at: appliedAt, text: `payment ${paymentId} pays for the order` }] : []),
      ];
    }),
    ...reversals.flatMap(({ created_at: first, updated_at: last, ...reversal }): Moment[] => {
      const of = { from: 'provider', what: 'reversal', id: reversal.provider_reversal_id } as const;
      const what = `${reversal.kind} of ${formatMoney(reversal.amount, reversal.currency)}`;
      const end = `${what}: ${reversal.status}`;
      if (first.getTime() === last.getTime()) return [{ ...of, at: last, text: `${end} (${of.id})` }];
      return [
        { ...of, at: first, text: `${what} known (${of.id})` },
        { ...of, at: last, text: end },
      ];
    }),
  ];
}

/** What staff requested. Who and why is a decision. */
function refundMoments(
  { refundId, paymentId, amount, createdAt, endedAt, status }: Refund,
  payments: MysqlLife['payments'],
): Moment[] {
  const of = { from: 'MySQL', what: 'refund', id: String(refundId) } as const;
  const { currency = '' } = payments.find((payment) => payment.paymentId === paymentId) ?? {};
  const money = currency === '' ? String(amount) : formatMoney(amount, currency);
  const end = status === 'failed' ? 'withdrawn' : status;
  return [
    { ...of, at: createdAt, text: `refund ${refundId} of ${money} requested` },
    ...(endedAt ? [{ ...of, at: endedAt, text: `refund ${refundId} of ${money} ${end}` }] : []),
  ];
}

function runMoments(
  { workflowId, startedAt, closedAt, status, moments }: WorkflowRun,
  name: string,
): Moment[] {
  const of = { from: 'Temporal', what: 'workflow', id: workflowId } as const;
  return [
    { ...of, at: startedAt, text: `${name} started` },
    ...moments.map(({ at, text }): Moment => ({ ...of, at, text: `${name}: ${text}` })),
    ...(closedAt ? [{ ...of, at: closedAt, text: `${name} ended: ${status.toLowerCase()}` }] : []),
  ];
}

/** What MySQL has noted of the start, where Temporal itself no longer has it. */
function startMoments({ stored }: MysqlLife, runs: readonly WorkflowRun[]): Moment[] {
  const at = stored?.workflow_started_at;
  if (!at || runs.length > 0) return [];
  const id = stored.order.orderNo;
  return [{ at, from: 'MySQL', what: 'workflow', id, text: 'its workflow was started' }];
}

/** Without a workflow: its payment pages are closed first where it has any, or MySQL alone ended it. */
function endingMoments({ stored, events }: MysqlLife): Moment[] {
  if (!stored) return [];
  const end = events.find(({ status }) => isFinal(status));
  const at = stored.end_begun_at ?? (stored.mayRun ? undefined : end?.occurred_at);
  if (!at) return [];
  const text = `no workflow had begun: it is ${stored.state.status === 'paid' ? 'paid' : 'ended'} without one`;
  return [{ at, from: 'MySQL', what: 'event', id: null, text }];
}

function parkedMoments({ parked }: MysqlLife): Moment[] {
  return parked.flatMap((entry) => {
    const { parkedId, kind, cause, reason, lastError, times, settledBy } = entry;
    const of = { from: 'MySQL', what: 'parked', id: String(parkedId) } as const;
    const moment = (at: Date, text: string): Moment => ({ ...of, at, text });
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

function deliveryMoment(delivery: LineDelivery): Moment {
  const { endpoint, eventId, status, lastError, createdAt, endedAt } = delivery;
  const why = lastError === null ? '' : `: ${lastError}`;
  const text = `event ${eventId} ${status === 'delivered' ? 'delivered to' : `${status} for`} ${endpoint}${why}`;
  return { at: endedAt ?? createdAt, from: 'endpoint', what: 'delivery', id: eventId, text };
}
