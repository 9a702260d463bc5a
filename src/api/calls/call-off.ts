/** A sale, or a SKU of it, is called off for good: what that would do, the decision, and how far it is. */

import { z } from 'zod';
import { refusalSchema } from '../../money/payment.ts';
import { decisionReason, saleIdSchema, skuSchema } from '../../orders/content.ts';
import { EXCEPTION_CAUSES, type CallOffJob } from '../../sales/calling-off.sql.ts';
import { refuseOrders, reportOf } from '../../sales/calling-off.ts';
import { reply } from '../http/answer.ts';
import { forbidden } from '../http/auth.ts';
import { amount, count, shownCurrency, shownOrderNo, time } from '../http/replies.ts';
import { adminCall, type AdminCalls, type BackOffice, decisionReply, ofSale } from './call.ts';

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
  'POST /v1/admin/sales/:saleId/call-off': adminCall({
    id: 'callOffSale',
    does: 'Calls a sale, or a SKU of it, off for good: cancels its orders and sends their money back',
    scope: 'refunds:write',
    params: ofSale,
    body: { schema: callOffBody, isOptional: true },
    replies: {
      200: z
        .union([callOffReply, previewReply])
        .describe('How far the calling-off is, where it was so already; or what a dry run found.'),
      202: callOffReply,
    },
    away: 'decision_unavailable',
    refuses: {
      unknown: 'sale_not_found',
      'unknown-sku': 'unknown_sku',
      draft: 'sale_is_draft',
      otherwise: 'called_off_otherwise',
    },
    /** It takes the right to decide about the sale as well. A repeat answers with the same job. */
    async answer(office, { params: { saleId }, body, actor, ctx }) {
      const { sku = '', restock, dryRun, after, reason = null } = body;
      if (!ctx.state.scopes.has('sales:write')) throw forbidden('sales:write');
      if (dryRun) {
        const found = await office.callingOffs.preview({ saleId, sku }, after);
        if (typeof found === 'string') return { kind: found, sku };
        return reply({ saleId, sku: sku === '' ? null : sku, dryRun: true as const, ...found });
      }
      const outcome = await office.callingOffs.callOff({ saleId, sku }, restock, { actor, reason });
      if (!('job' in outcome)) return { ...outcome, sku };
      if (!outcome.job.endedAt) await begin(office, outcome.job);
      const status = outcome.kind === 'called-off' ? 202 : 200;
      return reply(await view(office, outcome.job), status);
    },
  }),
  'GET /v1/admin/sales/:saleId/call-off': adminCall({
    id: 'getCallOff',
    does: 'How far the calling-off of a sale, or of a SKU of it, is',
    scope: 'sales:read',
    params: ofSale,
    query: callOffQuery,
    replies: { 200: callOffReply },
    away: 'sale_unavailable',
    refuses: { not: 'not_called_off' },
    async answer(office, { params: { saleId }, query: { sku = '' } }) {
      const job = await office.callingOffs.findJob({ saleId, sku });
      return job ? reply(await view(office, job)) : { kind: 'not' };
    },
  }),
} satisfies AdminCalls;

/** It is decided. What fails here its workflow repeats, or the reconciliation. */
async function begin(office: BackOffice, job: CallOffJob): Promise<void> {
  await refuseOrders(office, job).catch((error: unknown) => {
    office.log.warn({ err: error, jobId: job.jobId }, 'orders of what is called off are refused later');
  });
  office.notifier.calledOff(job);
}

async function view(office: BackOffice, job: CallOffJob): Promise<z.infer<typeof callOffReply>> {
  const report = await reportOf(office, job);
  const { sku, calledOffAt, endedAt, ...rest } = job;
  return {
    ...rest,
    sku: sku === '' ? null : sku,
    calledOffAt: calledOffAt.toISOString(),
    endedAt: endedAt?.toISOString() ?? null,
    ...report,
  };
}
