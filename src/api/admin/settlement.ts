/** The settlement export of a sale, as JSON or CSV. */

import { Readable } from 'node:stream';
import { z } from 'zod';
import { SALE_ID_PATTERN } from '../../domain/limits.ts';
import { SETTLEMENT_FORMATS, writeSettlement } from '../../settlement/write-settlement.ts';
import { readSettlement } from '../../stores/mysql/ops/settlement.ts';
import type { Stores } from '../../stores/open.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import type { AdminContext } from './calls.ts';
import { saleUnknown } from './sales.ts';

/** Exports at once in one process: each holds a connection to MySQL as long as its reader takes. */
const AT_ONCE_MAX = 2;
/** A reader who takes longer is cut off: 100,000 orders take seconds. */
const READ_WITHIN_MS = 5 * 60_000;

const exportQuery = z.strictObject({ format: z.enum(SETTLEMENT_FORMATS).optional() });

export function createGetSettlement({ pool, sales }: Stores) {
  let underWay = 0;

  return async function getSettlement(ctx: AdminContext): Promise<void> {
    const saleId = ctx.params['saleId'] ?? '';
    if (!SALE_ID_PATTERN.test(saleId)) throw saleUnknown();
    const query = parseInput(exportQuery, { ...ctx.query });
    const format = query.format ?? (ctx.accepts('json', 'csv') === 'csv' ? 'csv' : 'json');
    if (!(await sales.read(saleId).catch(failToRead))) throw saleUnknown();
    if (underWay >= AT_ONCE_MAX)
      throw new Problem('overloaded', 'Other exports are under way.', { retryAfterSeconds: 5 });
    underWay += 1;
    const body = Readable.from(writeSettlement(saleId, readSettlement(pool, saleId), format));
    const timer = setTimeout(() => body.destroy(new Error('the export was read too slowly')), READ_WITHIN_MS);
    body.once('close', () => {
      clearTimeout(timer);
      underWay -= 1;
    });
    ctx.set('Cache-Control', 'no-store');
    ctx.type = format === 'csv' ? 'text/csv; charset=utf-8' : 'application/json';
    ctx.body = body;
  };
}

function failToRead(error: unknown): never {
  throw unavailable('sale_unavailable', 'The sale cannot be read right now.', error);
}
