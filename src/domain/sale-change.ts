/** What a shop may change about a sale, and what it has changed. */

import { z } from 'zod';
import { saleSchema, type Sale } from './sale.ts';

/** A draft is not for shoppers yet: all of it may still change, and it is never in Redis. */
export const saleDocumentSchema = z.object({ sale: saleSchema, isDraft: z.boolean() });

/** All that a shop decides about a sale. */
export type SaleDocument = z.infer<typeof saleDocumentSchema>;

/** put: the whole document is replaced. warm_up: the sale is put into Redis, and nothing else changes. */
export const CHANGE_ACTIONS = ['put', 'pause', 'resume', 'close', 'warm_up'] as const;
export type ChangeAction = (typeof CHANGE_ACTIONS)[number];

/** What Redis has decided of a sale, and sells it by. MySQL alone has the rule for refunds. */
export interface DecidedSale {
  /** Of the last change that was decided. */
  changeNo: number;
  /** Of the same; empty: it is not known. */
  changeId: string;
  epoch: number;
  sale: Omit<Sale, 'refundRestoresLimit'>;
}

/**
 * Whether Redis has decided a change that MySQL does not know. Redis decides only what MySQL has recorded, so
 * MySQL has lost commits.
 */
export function isBehind(
  inMysql: Pick<DecidedSale, 'changeNo' | 'changeId'>,
  decided: Pick<DecidedSale, 'changeNo' | 'changeId'>,
): boolean {
  if (decided.changeNo !== inMysql.changeNo) return decided.changeNo > inMysql.changeNo;
  return inMysql.changeId !== '' && decided.changeId !== '' && inMysql.changeId !== decided.changeId;
}

/** A rule that orders have relied on since the sale was put into Redis. */
export interface FixedRule {
  /** Where in the document. */
  path: string;
  message: string;
  /** The SKU that is missing. */
  sku?: string;
}

/** The first rule that a change would break; undefined: it may be made. For a sale that is in Redis. */
export function findFixedRule(
  { sale: before }: SaleDocument,
  { sale: after, isDraft }: SaleDocument,
  nowMs: number,
): FixedRule | undefined {
  if (isDraft) return { path: 'draft', message: 'The sale is on, so it is no draft any more.' };
  if (after.currency !== before.currency)
    return { path: 'currency', message: 'The currency of a sale that is on stays.' };
  if (after.opensAtMs !== before.opensAtMs && before.opensAtMs <= nowMs)
    return { path: 'opensAt', message: 'The sale has opened.' };
  const prices = new Map(before.skus.map(({ sku, unitPrice }) => [sku, unitPrice]));
  const changed = after.skus.findIndex(({ sku, unitPrice }) => (prices.get(sku) ?? unitPrice) !== unitPrice);
  if (changed !== -1)
    return {
      path: `skus.${changed}.unitPrice`,
      message: 'The price of a SKU stays; another price is another SKU.',
    };
  const kept = new Set(after.skus.map(({ sku }) => sku));
  const removed = before.skus.find(({ sku }) => !kept.has(sku));
  if (removed)
    return {
      path: 'skus',
      message: 'A SKU is missing. Set its total to what is held and sold instead.',
      sku: removed.sku,
    };
  return undefined;
}

export interface Change {
  /** Where in the document, a SKU by its code. */
  path: string;
  from: unknown;
  to: unknown;
}

/** Every value in which two documents differ. Equal documents have none. */
export function compareDocuments(before: SaleDocument, after: SaleDocument): Change[] {
  const [from, to] = [flatten(before), flatten(after)];
  return [...new Set([...from.keys(), ...to.keys()])].flatMap((path) => {
    const change = { path, from: from.get(path) ?? null, to: to.get(path) ?? null };
    return JSON.stringify(change.from) === JSON.stringify(change.to) ? [] : [change];
  });
}

function flatten({ sale: { skus, ...rules }, isDraft }: SaleDocument): Map<string, unknown> {
  const { metadata, ...plain } = rules;
  const values: [string, unknown][] = [
    ...Object.entries(plain),
    ['draft', isDraft],
    ['metadata', sorted(metadata)],
  ];
  for (const [position, item] of skus.entries()) {
    const { sku, metadata: ofSku, ...others } = item;
    values.push([`skus ${sku} position`, position], [`skus ${sku} metadata`, sorted(ofSku)]);
    for (const [name, value] of Object.entries(others)) values.push([`skus ${sku} ${name}`, value]);
  }
  return new Map(values);
}

/** The order of its keys means nothing. */
function sorted(metadata: Sale['metadata']): unknown {
  return metadata && Object.entries(metadata).toSorted(([a], [b]) => (a < b ? -1 : 1));
}
