/** A sale, or a SKU of it, is called off for good: what that would do, the decision, and how far it is. */

import { z } from 'zod';
import { MAX_DECISION_CHARS, SALE_ID_PATTERN } from '../../limits.ts';
import { refusalSchema } from '../../money/payment.ts';
import { skuSchema } from '../../orders/content.ts';
import { EXCEPTION_CAUSES, type CallOffJob } from '../../sales/calling-off.sql.ts';
import { refuseOrders, reportOf } from '../../sales/calling-off.ts';
import { forbidden } from '../http/auth.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import { amount, count, time } from '../http/replies.ts';
import type { AdminCalls, AdminContext, BackOffice } from './call.ts';
import { saleUnknown } from './sales.ts';

/** Orders, and their money in minor units. */
const sumReply = z.strictObject({ orders: count, amount });

export const callOffReply = z.strictObject({
  jobId: z.string(),
  saleId: z.string(),
  /** Null: the sale as a whole. */
  sku: z.string().nullable(),
  restock: z.boolean(),
  actor: z.string(),
  reason: z.string().nullable(),
  calledOffAt: time,
  /** Null: its job goes on. */
  endedAt: time.nullable(),
  /** Over all orders; the last one found nothing left. */
  passes: count,
  currency: z.string().length(3),
  /** Open yet; cancelled because it was called off; and payments that came for those, which go back. */
  open: sumReply,
  cancelled: sumReply,
  late: sumReply,
  /** Refunds of paid orders: on their way, with the payer, withdrawn by staff. */
  requested: sumReply,
  refunded: sumReply,
  withdrawn: sumReply,
  /** The first orders whose money does not go back by the job; of a refused one, what the provider said. */
  exceptions: z.array(
    z.strictObject({
      orderNo: z.string(),
      cause: z.enum(EXCEPTION_CAUSES),
      refusal: refusalSchema.optional(),
    }),
  ),
});
type CallOffReply = z.infer<typeof callOffReply>;

/** What calling off would do now. */
const previewReply = z.strictObject({
  saleId: z.string(),
  sku: z.string().nullable(),
  dryRun: z.literal(true),
  currency: z.string().length(3),
  /** Would be cancelled; would get so much back. */
  open: sumReply,
  paid: sumReply,
  /** Of the paid ones: a dispute about them is open, and so much of their money cannot go back. */
  disputed: sumReply,
});
type PreviewReply = z.infer<typeof previewReply>;

const callOffBody = z.strictObject({
  sku: skuSchema.optional(),
  /** The units of refunded orders may be sold again. */
  restock: z.boolean().default(false),
  dryRun: z.boolean().default(false),
  reason: z.string().trim().min(1).max(MAX_DECISION_CHARS).optional(),
});

const callOffQuery = z.strictObject({
  sku: skuSchema
    .optional()
    .describe('Of this SKU, or of its sale where that is called off; unless given, of the sale.'),
});

export const callOffCalls = {
  'POST /v1/admin/sales/:saleId/call-off': {
    id: 'callOffSale',
    does: 'Calls a sale, or a SKU of it, off for good: cancels its orders and sends their money back',
    scope: 'refunds:write',
    body: { schema: callOffBody, isOptional: true },
    replies: { 200: z.union([callOffReply, previewReply]), 202: callOffReply },
    refuses: [
      'sale_not_found',
      'unknown_sku',
      'sale_is_draft',
      'called_off_otherwise',
      'decision_unavailable',
      'sale_unavailable',
    ],
    handle: callOff,
  },
  'GET /v1/admin/sales/:saleId/call-off': {
    id: 'getCallOff',
    does: 'How far the calling-off of a sale, or of a SKU of it, is',
    scope: 'sales:read',
    query: callOffQuery,
    replies: { 200: callOffReply },
    refuses: ['sale_not_found', 'not_called_off', 'sale_unavailable'],
    handle: getCallOff,
  },
} satisfies AdminCalls;

/** It takes the right to decide about the sale as well. A repeat answers with the same job. */
async function callOff(office: BackOffice, ctx: AdminContext): Promise<void> {
  const { sku = '', restock, dryRun, reason = null } = parseInput(callOffBody, ctx.state.body ?? {});
  if (!ctx.state.scopes.has('sales:write')) throw forbidden('sales:write');
  const saleId = saleIdOf(ctx);
  if (dryRun) return preview(office, ctx, { saleId, sku });
  const decision = { actor: ctx.state.userId, reason };
  const outcome = await office.callingOffs.callOff({ saleId, sku }, restock, decision).catch(failToDecide);
  switch (outcome.kind) {
    case 'called-off':
    case 'repeated': {
      const { job } = outcome;
      if (!job.endedAt) await begin(office, job);
      ctx.status = outcome.kind === 'called-off' ? 202 : 200;
      return answer(office, ctx, job);
    }
    case 'unknown':
      throw saleUnknown();
    case 'unknown-sku':
      throw skuUnknown(sku);
    case 'draft':
      throw new Problem('sale_is_draft');
    case 'otherwise':
      throw new Problem('called_off_otherwise');
    default:
      return outcome satisfies never;
  }
}

/** It is decided. What fails here its workflow repeats, or the reconciliation. */
async function begin(office: BackOffice, job: CallOffJob): Promise<void> {
  await refuseOrders(office, job).catch((error: unknown) => {
    office.log.warn({ err: error, jobId: job.jobId }, 'orders of what is called off are refused later');
  });
  office.notifier.calledOff(job);
}

async function preview(
  { callingOffs }: BackOffice,
  ctx: AdminContext,
  { saleId, sku }: { saleId: string; sku: string },
): Promise<void> {
  const found = await callingOffs.preview({ saleId, sku }).catch(failToRead);
  if (found === 'unknown') throw saleUnknown();
  if (found === 'unknown-sku') throw skuUnknown(sku);
  ctx.body = { saleId, sku: sku === '' ? null : sku, dryRun: true, ...found } satisfies PreviewReply;
}

async function getCallOff(office: BackOffice, ctx: AdminContext): Promise<void> {
  const { sku = '' } = parseInput(callOffQuery, { ...ctx.query });
  const job = await office.callingOffs.findJob({ saleId: saleIdOf(ctx), sku }).catch(failToRead);
  if (!job) throw new Problem('not_called_off');
  await answer(office, ctx, job);
}

async function answer(office: BackOffice, ctx: AdminContext, job: CallOffJob): Promise<void> {
  const { job: _, ...report } = await reportOf(office, job).catch(failToRead);
  const { sku, calledOffAt, endedAt, ...rest } = job;
  ctx.set('Cache-Control', 'no-store');
  ctx.body = {
    ...rest,
    sku: sku === '' ? null : sku,
    calledOffAt: calledOffAt.toISOString(),
    endedAt: endedAt?.toISOString() ?? null,
    ...report,
  } satisfies CallOffReply;
}

function saleIdOf(ctx: AdminContext): string {
  const saleId = ctx.params['saleId'] ?? '';
  if (!SALE_ID_PATTERN.test(saleId)) throw saleUnknown();
  return saleId;
}

function skuUnknown(sku: string): Problem {
  return new Problem('unknown_sku', { extra: { sku } });
}

function failToDecide(error: unknown): never {
  throw unavailable('decision_unavailable', error);
}

function failToRead(error: unknown): never {
  throw unavailable('sale_unavailable', error);
}
