/** A sale, or a SKU of it, is called off for good: what that would do, the decision, and how far it is. */

import { z } from 'zod';
import { SALE_ID_PATTERN } from '../../limits.ts';
import { refusalSchema } from '../../money/payment.ts';
import { decisionReason, saleIdSchema, skuSchema } from '../../orders/content.ts';
import { EXCEPTION_CAUSES, type CallOffJob } from '../../sales/calling-off.sql.ts';
import { refuseOrders, reportOf } from '../../sales/calling-off.ts';
import { forbidden } from '../http/auth.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import { amount, count, shownCurrency, shownOrderNo, time } from '../http/replies.ts';
import { decisionReply, type AdminCalls, type AdminContext, type BackOffice } from './call.ts';
import { saleUnknown } from './sales.ts';

const sumReply = z.strictObject({ orders: count.describe('Orders.'), amount });

export const callOffReply = z
  .strictObject({
    jobId: z.string().meta({ description: 'The id of the job.', examples: ['01JD3Q8K5T6Z7B9C2D4E6F8G0H'] }),
    saleId: saleIdSchema,
    sku: skuSchema.nullable().describe('The SKU that is called off; null: the whole sale.'),
    restock: z.boolean().describe('The units of refunded orders may be sold again.'),
    ...decisionReply,
    calledOffAt: time.describe('When it was called off.'),
    endedAt: time.nullable().meta({ description: 'When the job ended; null: it goes on.', examples: [null] }),
    passes: count.describe('Passes over all orders. The last one found nothing to do.'),
    currency: shownCurrency,
    open: sumReply.describe('Orders that are being cancelled because of it.'),
    cancelled: sumReply.describe('Orders that were cancelled because of it.'),
    late: sumReply.describe('Payments that came for cancelled orders, and go back.'),
    requested: sumReply.describe('Refunds of paid orders that are on their way.'),
    refunded: sumReply.describe('Refunds of paid orders that are with the payer.'),
    withdrawn: sumReply.describe('Refunds of paid orders that staff withdrew.'),
    exceptions: z
      .array(
        z.strictObject({
          orderNo: shownOrderNo,
          cause: z.enum(EXCEPTION_CAUSES).describe('Why the money does not go back by the job.'),
          refusal: refusalSchema.optional().describe('What the provider said when it refused.'),
        }),
      )
      .describe('The first 200 orders whose money the job does not send back.'),
  })
  .describe('How far the calling-off is.');
type CallOffReply = z.infer<typeof callOffReply>;

const previewReply = z
  .strictObject({
    saleId: saleIdSchema,
    sku: skuSchema.nullable().describe('The SKU that would be called off; null: the whole sale.'),
    dryRun: z.literal(true).describe('Nothing was done.'),
    currency: shownCurrency,
    open: sumReply.describe('Orders that would be cancelled.'),
    paid: sumReply.describe('Orders whose money would go back.'),
    disputed: sumReply.describe(
      'Of the paid orders: those with an open dispute, and what of their money cannot go back for that.',
    ),
    next: z
      .string()
      .nullable()
      .meta({ description: 'For `after`; null: there are no more orders.', examples: [null] }),
  })
  .describe('What calling off would do now about some thousand orders. The caller adds up the answers.');
type PreviewReply = z.infer<typeof previewReply>;

const callOffBody = z
  .strictObject({
    sku: skuSchema.optional().describe('The SKU to call off. Unless given: the whole sale.'),
    restock: z.boolean().default(false).describe('The units of refunded orders may be sold again.'),
    dryRun: z.boolean().default(false).describe('Nothing is done: the answer says what would be.'),
    after: z
      .string()
      .regex(/^(?:open|paid):[A-Za-z0-9-]{0,80}$/)
      .optional()
      .meta({
        description: 'Of a dry run: the orders after those of the answer whose `next` this is.',
        examples: ['paid:'],
      }),
    reason: decisionReason.optional(),
  })
  .meta({ examples: [{ sku: 'lamp', restock: false, reason: 'The lamps are recalled.' }] });

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
    replies: {
      200: z
        .union([callOffReply, previewReply])
        .describe('How far the calling-off is, where it was so already; or what a dry run found.'),
      202: callOffReply,
    },
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
  const { sku = '', restock, dryRun, after, reason = null } = parseInput(callOffBody, ctx.state.body ?? {});
  if (!ctx.state.scopes.has('sales:write')) throw forbidden('sales:write');
  const saleId = saleIdOf(ctx);
  if (dryRun) return preview(office, ctx, { saleId, sku }, after);
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
  after?: string,
): Promise<void> {
  const found = await callingOffs.preview({ saleId, sku }, after).catch(failToRead);
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
  const report = await reportOf(office, job).catch(failToRead);
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
