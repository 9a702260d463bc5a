/** Writes the settlement of a sale as JSON or CSV, a page at a time, so that a big sale fills no memory. */

import { stringify } from 'csv-stringify/sync';
import type { SettlementLine } from './settlement.sql.ts';

export const SETTLEMENT_FORMATS = ['json', 'csv'] as const;
export type SettlementFormat = (typeof SETTLEMENT_FORMATS)[number];

/** Of one currency, in minor units. */
interface Total {
  currency: string;
  /** What the provider collected. */
  paid: number;
  /** What of it is back with the payers for sure. */
  refunded: number;
  chargedBack: number;
  /** What the provider charges, as far as it is reported. */
  fees: number;
  /** What is left. */
  kept: number;
}

const COLUMNS = ['line', 'orderNo', 'reference', 'id', 'provider', 'amount', 'currency', 'status', 'at'];

export function writeSettlement(
  saleId: string,
  pages: AsyncIterable<SettlementLine[]>,
  format: SettlementFormat,
): AsyncGenerator<string> {
  return format === 'csv' ? writeCsv(pages) : writeJson(saleId, pages);
}

/** A cell that a spreadsheet would take for a formula is escaped. The totals are its last lines. */
async function* writeCsv(pages: AsyncIterable<SettlementLine[]>): AsyncGenerator<string> {
  const totals = new Map<string, Total>();
  const write = (lines: object[]): string => stringify(lines, { columns: COLUMNS, escape_formulas: true });
  yield stringify([COLUMNS]);
  for await (const page of pages) {
    for (const line of page) addTo(totals, line);
    yield write(page.map(viewLine));
  }
  for (const { currency, ...sums } of totals.values())
    yield write(Object.entries(sums).map(([id, amount]) => ({ line: 'total', id, amount, currency })));
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

function viewLine({ at, ...line }: SettlementLine) {
  return { ...line, at: at.toISOString() };
}

function addTo(totals: Map<string, Total>, { line, amount, currency, status }: SettlementLine): void {
  const total = totals.get(currency) ?? { currency, paid: 0, refunded: 0, chargedBack: 0, fees: 0, kept: 0 };
  totals.set(currency, total);
  // A fee is charged whatever becomes of what it is for.
  const isDone = line === 'payment' || line === 'fee' || status === 'succeeded';
  if (line === 'order' || line === 'charge' || !isDone) return;
  if (line === 'payment') total.paid += amount;
  else if (line === 'refund') total.refunded -= amount;
  else if (line === 'fee') total.fees -= amount;
  else total.chargedBack -= amount;
  total.kept += amount;
}
