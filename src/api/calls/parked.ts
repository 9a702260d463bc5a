/** Parked work: what waits for staff, and what they have done about it. */

import { z } from 'zod';
import { follow } from '../../orders/follow.ts';
import { expectedHold, parseOrderNo } from '../../orders/order.ts';
import { adviceOn } from '../../parked/advice.ts';
import { PARKED_KINDS, type Decision } from '../../parked/parked.sql.ts';
import { subjectOf, type ParkedEntry } from '../../parked/work.sql.ts';
import { putIntoOutbox } from '../../redis/outbox.ts';
import { refundWorkflowId } from '../../workflows/contract.ts';
import { reply } from '../http/answer.ts';
import { Problem } from '../http/problem.ts';
import { count, time, nextNumber, pageOf } from '../http/replies.ts';
import { pageLimit, wholeNumber } from '../http/request.ts';
import { auditEntryReply, viewAuditEntry } from './audit-log.ts';
import { adminCall, type AdminCalls, type BackOffice, reasonBody, rowId } from './call.ts';

/** Entries in one answer: some 100 KB. */
const MAX_PARKED_PAGE = 100;
/** Decisions about an entry that are shown: staff decide about it a few times. */
const MAX_DECISIONS = 50;

const parkedReply = z
  .strictObject({
    parkedId: z.int().min(1).describe('The number of the entry.'),
    kind: z.enum(PARKED_KINDS).describe('What is parked.'),
    reference: z.string().meta({
      description: "Of what: an orderNo, the provider's payment id, or as docs/api.md says.",
      examples: ['pay_1'],
    }),
    orderNo: z
      .string()
      .nullable()
      .meta({ description: 'The order that it is about; null: none is known.', examples: [null] }),
    cause: z.string().meta({ description: 'A stable code: why it was parked.', examples: ['wrong_amount'] }),
    inputs: z
      .record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]))
      .meta({ description: 'The ids and amounts that the step was given.', examples: [{ amount: 4900 }] }),
    reason: z
      .string()
      .meta({ description: 'Why it was parked, in words.', examples: ['It is not what the order costs.'] }),
    lastError: z.string().meta({ description: 'The newest failure.', examples: [''] }),
    firstAt: time.describe('Since when it is parked.'),
    lastAt: time.describe('When it came up last.'),
    times: count.describe('How often it came up.'),
    resolvedAt: time.nullable().meta({ description: 'When it ended; null: it is parked.', examples: [null] }),
    settledBy: z
      .enum(['rules', 'operator'])
      .nullable()
      .meta({ description: 'Who ended it; null: nobody has.', examples: [null] }),
    remedy: z.string().meta({ description: 'What to do about it.', examples: ['Refund the payment.'] }),
  })
  .meta({ id: 'ParkedEntry', description: 'An entry of parked work.' });
type ParkedReply = z.infer<typeof parkedReply>;

export const parkedListReply = z
  .strictObject({
    entries: z
      .array(parkedReply)
      .describe('What is parked, the longest first; what is resolved, the latest first.'),
    next: nextNumber,
  })
  .meta({ id: 'ParkedList', description: 'A page of parked work.' });

export const parkedFileReply = parkedReply
  .extend({
    decisions: z
      .array(auditEntryReply)
      .describe('What staff decided about it, or about its order; the newest first.'),
  })
  .meta({ id: 'ParkedFile', description: 'An entry of parked work with what staff decided.' });

export const retriedReply = parkedReply
  .extend({
    outcome: z
      .enum(['due', 'followed', 'requeued', 'resolved'])
      .describe(
        'due: it is tried again before new work. followed: the hold of the ended order was settled. requeued: the order is in the outbox again. resolved: it was not parked any more.',
      ),
  })
  .meta({ id: 'RetriedEntry', description: 'An entry of parked work that is tried again.' });

const listQuery = z.strictObject({
  kind: z.enum(PARKED_KINDS).optional().describe('Those of this kind alone.'),
  state: z.enum(['parked', 'resolved']).optional().describe('Those in this state; `parked` unless given.'),
  after: wholeNumber.optional().describe('Those after the page whose `next` this is.'),
  limit: pageLimit(MAX_PARKED_PAGE),
});

/** Of each call about one entry. */
const ofEntry = { schema: z.object({ parkedId: rowId }), otherwise: 'parked_not_found' } as const;

export const parkedCalls = {
  'GET /v1/admin/parked': adminCall({
    id: 'listParked',
    does: 'What waits for staff, or did, a page at a time',
    scope: 'parked:read',
    query: listQuery,
    replies: { 200: parkedListReply },
    away: 'status_unavailable',
    refuses: {},
    async answer({ parkedWork }, { query: { limit, ...search } }) {
      const found = await parkedWork.list({ ...search, limit: limit + 1 });
      const { page, next } = pageOf(found, limit, ({ parkedId }) => parkedId);
      return reply({ entries: page.map(viewEntry), next });
    },
  }),
  'GET /v1/admin/parked/:parkedId': adminCall({
    id: 'getParked',
    does: 'An entry of parked work, what to do about it, and what staff decided',
    scope: 'parked:read',
    params: ofEntry,
    replies: { 200: parkedFileReply },
    away: 'status_unavailable',
    refuses: { unknown: 'parked_not_found' },
    async answer({ parkedWork, auditLog }, { params: { parkedId } }) {
      const entry = await parkedWork.read(parkedId);
      if (!entry) return { kind: 'unknown' };
      const decisions = await auditLog.list({ subject: subjectOf(entry) }, MAX_DECISIONS);
      return reply({ ...viewEntry(entry), decisions: decisions.map(viewAuditEntry) });
    },
  }),
  'POST /v1/admin/parked/:parkedId/retry': adminCall({
    id: 'retryParked',
    does: 'Has parked work tried again, before new work',
    scope: 'parked:write',
    params: ofEntry,
    body: { schema: reasonBody },
    replies: { 200: retriedReply, 202: retriedReply },
    away: 'decision_unavailable',
    refuses: { unknown: 'parked_not_found' },
    throws: ['not_retryable'],
    async answer(office, { params: { parkedId }, body: { reason }, actor }) {
      const entry = await office.parkedWork.read(parkedId);
      if (!entry) return { kind: 'unknown' };
      const outcome = await retry(office, entry, { actor, reason });
      if (outcome === undefined) return { kind: 'unknown' };
      const after = (await office.parkedWork.read(parkedId)) ?? entry;
      return reply({ ...viewEntry(after), outcome }, outcome === 'due' ? 202 : 200);
    },
  }),
  'POST /v1/admin/parked/:parkedId/resolve': adminCall({
    id: 'resolveParked',
    does: 'Ends an entry that staff have settled by hand; also one that has ended',
    scope: 'parked:write',
    params: ofEntry,
    body: { schema: reasonBody },
    replies: { 200: parkedReply },
    away: 'decision_unavailable',
    refuses: { unknown: 'parked_not_found' },
    async answer({ parkedWork }, { params: { parkedId }, body: { reason }, actor }) {
      const outcome = await parkedWork.resolve(parkedId, { actor, reason });
      const entry = outcome === 'unknown' ? undefined : await parkedWork.read(parkedId);
      return entry ? reply(viewEntry(entry)) : { kind: 'unknown' };
    },
  }),
} satisfies AdminCalls;

/** What MySQL makes due, and what Redis or a workflow have to do besides. */
async function retry(
  office: BackOffice,
  entry: ParkedEntry,
  decision: Decision,
): Promise<z.infer<typeof retriedReply>['outcome'] | undefined> {
  const outcome = await office.parkedWork.retry(entry.parkedId, decision);
  switch (outcome) {
    case 'due':
      await hurry(office, entry);
      return 'due';
    case 'ended':
      return followNow(office, entry, decision);
    case 'not-stored':
      return putBack(office, entry, entry.reference, decision);
    case 'outbox':
      return putBack(office, entry, orderOf(entry) ?? '', decision);
    case 'undecided':
      throw notRetryable('The rules have decided what they can: refund the payment, or resolve the entry.');
    case 'resolved':
      return 'resolved';
    case 'unknown':
      return undefined;
  }
}

/** A step that waits for its next try, up to ten minutes away, is tried at once. */
async function hurry({ parkedWork, notifier }: BackOffice, { kind, reference }: ParkedEntry): Promise<void> {
  if (kind === 'order') notifier.retried(reference);
  if (kind === 'payment' || kind === 'refund')
    for (const payment of await parkedWork.listPayments(reference))
      notifier.retried(refundWorkflowId(payment));
}

/** The order has ended in MySQL. What is due of that in Redis is done at once. */
async function followNow(office: BackOffice, entry: ParkedEntry, decision: Decision): Promise<'followed'> {
  const orderNo = entry.reference;
  const stored = await office.orders.read(orderNo);
  if (!stored) throw notRetryable('The order is not stored any more.');
  const { status } = stored.state;
  const hold = (await follow(office, [{ orderNo, state: stored.state }])).get(orderNo)?.found;
  if (hold !== expectedHold(status) && !(status === 'paid' && hold === 'returned'))
    throw notRetryable(
      `The order is ${status}, and its hold is ${hold ?? 'not readable'}: nothing of it can be settled. If the audit finds nothing wrong about it, resolve the entry.`,
    );
  await office.parkedWork.completeRetry(entry, decision);
  return 'followed';
}

/** Puts an order that no relay reads any more back into the outbox, if it is there as a whole. */
async function putBack(
  { reservations, redis, parkedWork }: BackOffice,
  entry: ParkedEntry,
  orderNo: string,
  decision: Decision,
): Promise<'requeued'> {
  const [reserved] = parseOrderNo(orderNo) ? await reservations.readOrders([orderNo]) : [];
  if (!reserved) throw notRetryable('No whole order is left of it that could be stored: resolve the entry.');
  // Twice does no harm, should this process die in between: storing finds the order.
  await putIntoOutbox(redis, orderNo);
  await parkedWork.completeRetry(entry, decision);
  return 'requeued';
}

function viewEntry(entry: ParkedEntry): ParkedReply {
  const { firstAt, lastAt, resolvedAt } = entry;
  return {
    ...entry,
    orderNo: orderOf(entry) ?? null,
    firstAt: firstAt.toISOString(),
    lastAt: lastAt.toISOString(),
    resolvedAt: resolvedAt?.toISOString() ?? null,
    remedy: adviceOn(entry.cause),
  };
}

/** A payment may name anything as its order. */
function orderOf({ kind, reference, inputs }: ParkedEntry): string | undefined {
  const named = kind === 'order' ? reference : inputs['orderNo'];
  return typeof named === 'string' && parseOrderNo(named) ? named : undefined;
}

function notRetryable(detail: string): Problem {
  return new Problem('not_retryable', { detail });
}
