/** The settlement export of a sale, as JSON or CSV: streamed, so that a big sale does not fill the memory. */

import { Readable } from 'node:stream';
import { stringify } from 'csv-stringify/sync';
import { z } from 'zod';
import { SALE_ID_PATTERN } from '../../domain/limits.ts';
import type { Pool } from '../../stores/mysql/connection.ts';
import { readSettlement, type SettlementLine } from '../../stores/mysql/ops/settlement.ts';
import type { Sales } from '../../stores/mysql/sales.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import type { SettlementReply } from '../http/staff-replies.ts';
import { saleUnknown } from './change-sale.ts';
import type { AdminContext } from './routes.ts';

export interface SettlementDeps {
  pool: Pool;
  sales: Pick<Sales, 'read'>;
}

/** Exports at once in one process: each holds a connection to MySQL as long as its reader takes. */
const AT_ONCE_MAX = 2;
/** A reader who takes longer is cut off: 100,000 orders take seconds. */
const READ_WITHIN_MS = 5 * 60_000;

const exportQuery = z.strictObject({ format: z.enum(['json', 'csv']).optional() });
const COLUMNS = ['line', 'orderNo', 'reference', 'id', 'provider', 'amount', 'currency', 'status', 'at'];

type Total = SettlementReply['totals'][number];

export function createGetSettlement({ pool, sales }: SettlementDeps) {
  let underWay = 0;

  return async function getSettlement(ctx: AdminContext): Promise<void> {
    const saleId = ctx.params['saleId'] ?? '';
    if (!SALE_ID_PATTERN.test(saleId)) throw saleUnknown();
    const { format } = parseInput(exportQuery, { ...ctx.query });
    const isCsv = (format ?? (ctx.accepts('json', 'csv') === 'csv' ? 'csv' : 'json')) === 'csv';
    if (!(await sales.read(saleId).catch(failToRead))) throw saleUnknown();
    if (underWay >= AT_ONCE_MAX)
      throw new Problem('overloaded', 'Other exports are under way.', { retryAfterSeconds: 5 });
    underWay += 1;
    const pages = readSettlement(pool, saleId);
    const body = Readable.from(isCsv ? writeCsv(pages) : writeJson(saleId, pages));
    const timer = setTimeout(() => body.destroy(new Error('the export was read too slowly')), READ_WITHIN_MS);
    body.once('close', () => {
      clearTimeout(timer);
      underWay -= 1;
    });
    ctx.set('Cache-Control', 'no-store');
    ctx.type = isCsv ? 'text/csv; charset=utf-8' : 'application/json';
    ctx.body = body;
  };
}

/** A cell that a spreadsheet would take for a formula is escaped. */
async function* writeCsv(pages: AsyncIterable<SettlementLine[]>): AsyncGenerator<string> {
  yield stringify([COLUMNS]);
  for await (const page of pages)
    yield stringify(page.map(viewLine), { columns: COLUMNS, escape_formulas: true });
}

async function* writeJson(saleId: string, pages: AsyncIterable<SettlementLine[]>): AsyncGenerator<string> {
  const totals = new Map<string, Total>();
  yield `{"saleId":${JSON.stringify(saleId)},"lines":[`;
  let separator = '';
  for await (const page of pages) {
    for (const line of page) addTo(totals, line);
    yield separator + page.map((line) => JSON.stringify(viewLine(line))).join(',');
    separator = ',';
  }
  yield `],"totals":${JSON.stringify([...totals.values()])}}`;
}

function viewLine({ at, ...line }: SettlementLine): SettlementReply['lines'][number] {
  return { ...line, at: at.toISOString() };
}

/** What the provider collected, what of it is back with the payers for sure, and what the shop keeps. */
function addTo(totals: Map<string, Total>, { line, amount, currency, status }: SettlementLine): void {
  const total = totals.get(currency) ?? { currency, paid: 0, refunded: 0, chargedBack: 0, kept: 0 };
  totals.set(currency, total);
  const isDone = line === 'payment' || status === 'succeeded';
  if (line === 'order' || line === 'charge' || !isDone) return;
  if (line === 'payment') total.paid += amount;
  else if (line === 'refund') total.refunded -= amount;
  else total.chargedBack -= amount;
  total.kept += amount;
}

function failToRead(error: unknown): never {
  throw unavailable('sale_unavailable', 'The sale cannot be read right now.', error);
}
