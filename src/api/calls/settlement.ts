/** The settlement export of a sale, as JSON or CSV. */

import { Readable } from 'node:stream';
import { z } from 'zod';
import { readSettlement } from '../../money/settlement.sql.ts';
import { SETTLEMENT_FORMATS, writeSettlement } from '../../money/settlement.ts';
import type { Pool } from '../../mysql/connection.ts';
import { saleIdSchema } from '../../orders/content.ts';
import { written } from '../http/answer.ts';
import { Problem } from '../http/problem.ts';
import { time, amount, shownCurrency, shownOrderNo } from '../http/replies.ts';
import { adminCall, type AdminCalls, ofSale } from './call.ts';

export const settlementReply = z.strictObject({
  saleId: saleIdSchema,
  lines: z
    .array(
      z.strictObject({
        line: z
          .enum(['order', 'charge', 'payment', 'refund', 'dispute', 'fee'])
          .meta({ description: 'What the line is about.', examples: ['payment'] }),
        orderNo: shownOrderNo,
        id: z.string().meta({
          description: "The provider's id, of a fee that of what it is for; of a charge its code.",
          examples: ['pay_1'],
        }),
        provider: z.string().meta({ description: 'The payment provider.', examples: ['stripe'] }),
        amount: z.int().meta({
          description:
            'Minor units of the currency; negative: it goes back to the payer, or to the provider.',
          examples: [10_295],
        }),
        currency: shownCurrency,
        status: z
          .string()
          .meta({ description: 'The status of what the line is about.', examples: ['applied'] }),
        reference: z.string().meta({
          description: "The shop's own number of the order; empty: the shop gave none.",
          examples: ['R-1001'],
        }),
        at: time.describe('When it happened.'),
      }),
    )
    .describe('The lines, by the numbers of the orders.'),
  totals: z
    .array(
      z.strictObject({
        currency: shownCurrency,
        paid: amount.meta({
          description: 'Minor units that the provider collected.',
          examples: [10_295],
        }),
        refunded: amount.meta({
          description: 'Minor units that went back by refunds, for sure.',
          examples: [0],
        }),
        chargedBack: amount.meta({
          description: 'Minor units that went back by disputes, for sure.',
          examples: [0],
        }),
        fees: z.int().describe('Minor units that the provider charges.'),
        kept: z.int().meta({ description: 'Minor units that are left of all that.', examples: [10_295] }),
      }),
    )
    .describe('The totals, one for each currency.'),
});

/** Exports at once in one process: each holds a connection to MySQL as long as its reader takes. */
const AT_ONCE_MAX = 2;
/** A reader who takes longer is cut off: 100,000 orders take seconds. */
const READ_WITHIN_MS = 5 * 60_000;

const exportQuery = z.strictObject({
  format: z
    .enum(SETTLEMENT_FORMATS)
    .optional()
    .describe('The form of the answer; unless given, `Accept` decides.'),
});

const csv = z
  .string()
  .min(1)
  .meta({
    examples: [
      [
        'line,orderNo,reference,id,provider,amount,currency,status,at',
        'payment,demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG,R-1001,pay_1,stripe,10295,EUR,applied,2026-11-21T10:01:12.345Z',
        'total,,,paid,,10295,EUR,,',
      ].join('\n'),
    ],
  });

export const settlementCalls = {
  'GET /v1/admin/sales/:saleId/settlement': adminCall({
    id: 'getSettlement',
    does: 'Every stored order of a sale with its money, a line each, as JSON or CSV',
    scope: 'settlement:read',
    params: ofSale,
    query: exportQuery,
    reads: ['Accept'],
    replies: {
      200: z.union([settlementReply, csv]).describe('The settlement of the sale, as of one moment.'),
    },
    away: 'sale_unavailable',
    refuses: { unknown: 'sale_not_found' },
    async answer({ pool, sales }, { params: { saleId }, query, ctx }) {
      const format = query.format ?? (ctx.accepts('json', 'csv') === 'csv' ? 'csv' : 'json');
      if (!(await sales.read(saleId))) return { kind: 'unknown' as const };
      if ((underWay.get(pool) ?? 0) >= AT_ONCE_MAX) throw new Problem('overloaded', { retryAfterSeconds: 5 });
      count(pool, 1);
      const lines = Readable.from(writeSettlement(saleId, readSettlement(pool, saleId), format));
      const tooSlow = new Error('the export was read too slowly');
      const timer = setTimeout(() => lines.destroy(tooSlow), READ_WITHIN_MS);
      lines.once('close', () => {
        clearTimeout(timer);
        count(pool, -1);
      });
      const type = format === 'csv' ? 'text/csv; charset=utf-8' : 'application/json';
      return written(lines, { 'Content-Type': type });
    },
  }),
} satisfies AdminCalls;

/** Exports that are under way, by what they read from. */
const underWay = new WeakMap<Pool, number>();

function count(pool: Pool, change: 1 | -1): void {
  underWay.set(pool, (underWay.get(pool) ?? 0) + change);
}
