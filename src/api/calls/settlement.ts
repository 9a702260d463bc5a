/** The settlement export of a sale, as JSON or CSV. */

import { Readable } from 'node:stream';
import { z } from 'zod';
import { SALE_ID_PATTERN } from '../../limits.ts';
import { readSettlement } from '../../money/settlement.sql.ts';
import { SETTLEMENT_FORMATS, writeSettlement } from '../../money/settlement.ts';
import type { Pool } from '../../mysql/connection.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import { time, amount } from '../http/replies.ts';
import type { AdminCalls, AdminContext, BackOffice } from './call.ts';
import { saleUnknown } from './sales.ts';

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
  'GET /v1/admin/sales/:saleId/settlement': {
    id: 'getSettlement',
    does: 'Every stored order of a sale with its money, a line each, as JSON or CSV',
    scope: 'settlement:read',
    query: exportQuery,
    reads: ['Accept'],
    replies: { 200: z.union([settlementReply, csv]) },
    refuses: ['sale_not_found', 'sale_unavailable'],
    handle: getSettlement,
  },
} satisfies AdminCalls;

/** Exports that are under way, by what they read from. */
const underWay = new WeakMap<Pool, number>();

function count(pool: Pool, change: 1 | -1): void {
  underWay.set(pool, (underWay.get(pool) ?? 0) + change);
}

async function getSettlement({ pool, sales }: BackOffice, ctx: AdminContext): Promise<void> {
  const saleId = ctx.params['saleId'] ?? '';
  if (!SALE_ID_PATTERN.test(saleId)) throw saleUnknown();
  const query = parseInput(exportQuery, { ...ctx.query });
  const format = query.format ?? (ctx.accepts('json', 'csv') === 'csv' ? 'csv' : 'json');
  if (!(await sales.read(saleId).catch(failToRead))) throw saleUnknown();
  if ((underWay.get(pool) ?? 0) >= AT_ONCE_MAX)
    throw new Problem('overloaded', 'Other exports are under way.', { retryAfterSeconds: 5 });
  count(pool, 1);
  const body = Readable.from(writeSettlement(saleId, readSettlement(pool, saleId), format));
  const timer = setTimeout(() => body.destroy(new Error('the export was read too slowly')), READ_WITHIN_MS);
  body.once('close', () => {
    clearTimeout(timer);
    count(pool, -1);
  });
  ctx.set('Cache-Control', 'no-store');
  ctx.type = format === 'csv' ? 'text/csv; charset=utf-8' : 'application/json';
  ctx.body = body;
}

function failToRead(error: unknown): never {
  throw unavailable('sale_unavailable', 'The sale cannot be read right now.', error);
}
