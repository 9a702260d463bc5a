/** The settlement export of a sale, as JSON or CSV. */

import { Readable } from 'node:stream';
import { z } from 'zod';
import { readSettlement } from '../../money/settlement.sql.ts';
import { SETTLEMENT_FORMATS, writeSettlement } from '../../money/settlement.ts';
import type { Pool } from '../../mysql/connection.ts';
import { NO_STORE, written } from '../http/answer.ts';
import { Problem } from '../http/problem.ts';
import { time, amount } from '../http/replies.ts';
import { adminCall, type AdminCalls, ofSale } from './call.ts';

export const settlementReply = z.strictObject({
  saleId: z.string(),
  lines: z.array(
    z.strictObject({
      line: z.enum(['order', 'charge', 'payment', 'refund', 'dispute', 'fee']),
      orderNo: z.string(),
      /** The provider's id of it, of a fee that of what it is for; or the code of a charge. */
      id: z.string(),
      provider: z.string(),
      /** Minor units; what goes back to the payer, or to the provider, is negative. */
      amount: z.int(),
      currency: z.string().length(3),
      status: z.string(),
      /** The shop's, of the order. */
      reference: z.string(),
      at: time,
    }),
  ),
  /** One a currency; `kept` is `paid` less what went back for sure and the fees. */
  totals: z.array(
    z.strictObject({
      currency: z.string().length(3),
      paid: amount,
      refunded: amount,
      chargedBack: amount,
      fees: z.int(),
      kept: z.int(),
    }),
  ),
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

const csv = z.string().min(1);

export const settlementCalls = {
  'GET /v1/admin/sales/:saleId/settlement': adminCall({
    id: 'getSettlement',
    does: 'Every stored order of a sale with its money, a line each, as JSON or CSV',
    scope: 'settlement:read',
    params: ofSale,
    query: exportQuery,
    reads: ['Accept'],
    replies: { 200: z.union([settlementReply, csv]) },
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
      return written(lines, { ...NO_STORE, 'Content-Type': type });
    },
  }),
} satisfies AdminCalls;

/** Exports that are under way, by what they read from. */
const underWay = new WeakMap<Pool, number>();

function count(pool: Pool, change: 1 | -1): void {
  underWay.set(pool, (underWay.get(pool) ?? 0) + change);
}
