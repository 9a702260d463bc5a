/** A sale: what the shop says of it, how it may change, and how an event shows it. */

import { z } from 'zod';
import { MIN_SALE_TIME_MS, MAX_PAYMENT_WINDOW_MS, MAX_SALE_TIME_MS } from '../limits.ts';
import {
  MAX_UNIT_PRICE,
  saleIdSchema,
  skuSchema,
  metadataSchema,
  nameOf,
  referenceSchema,
  jsonText,
} from '../orders/content.ts';

/** Sales in a page of those that Redis has: a relay reads one each second, and more are rarely there. */
export const IN_REDIS_PAGE = 1_000;

/** Units of one SKU on sale; fits MySQL's INT UNSIGNED with room. */
const MAX_SKU_TOTAL = 10_000_000;

/** A shopper who has let so many holds end is none. */
const MAX_UNPAID_HOLDS = 1_000;

/** Attempts within a minute from one address: more than an API process answers from all of them. */
const MAX_ADDRESS_PURCHASES = 1_000_000;

/** SKUs of one sale. Warm-up and the sale's page handle them in one reply. */
const MAX_SALE_SKUS = 200;

/** How long a shopper may take to pay unless the sale says otherwise. */
export const DEFAULT_PAYMENT_WINDOW_MS = 30 * 60 * 1000;

const nameSchema = nameOf(200).meta({ description: 'The name, for shoppers.', examples: ['Storm lamp'] });

/** Of the codes with an X that are money; the others are metals, units of account, tests, or nothing. */
const SHARED_CURRENCIES = ['XAF', 'XCD', 'XCG', 'XOF', 'XPF'];
const CURRENCIES = new Set(Intl.supportedValuesOf('currency'));

function isCurrency(code: string): boolean {
  return CURRENCIES.has(code) && (!code.startsWith('X') || SHARED_CURRENCIES.includes(code));
}

/** As the shop sends it. */
export const shopSku = z.strictObject({
  sku: skuSchema,
  name: nameSchema,
  unitPrice: z
    .int()
    .min(0)
    .max(MAX_UNIT_PRICE)
    .meta({ description: "Minor units of the sale's currency; 0: it is free.", examples: [4900] }),
  total: z
    .int()
    .min(0)
    .max(MAX_SKU_TOTAL)
    .meta({ description: 'Units on sale.', examples: [1000] }),
  limitPerUser: z
    .int()
    .min(1)
    .max(MAX_SKU_TOTAL)
    .nullable()
    .meta({ description: 'Units of the SKU that a user may hold or own; null: no limit.', examples: [2] })
    .default(null),
  reference: referenceSchema.optional(),
  metadata: metadataSchema.optional(),
});

export const calledOffMark = z.literal(true).describe('The SKU is called off, for good.');

/** Only its own call calls a SKU off. */
const saleSku = shopSku.extend({ calledOff: calledOffMark.optional() });

/** @param of each of the SKUs */
export function skusOf<T extends z.ZodType<{ sku: string }>>(of: T) {
  return z
    .array(of)
    .min(1)
    .max(MAX_SALE_SKUS)
    .refine((skus) => new Set(skus.map(({ sku }) => sku)).size === skus.length, 'each SKU once');
}

/** KiB of memory of one try at a challenge, by which its time grows too. Measured in docs/decisions.md. */
export const DEFAULT_WORK_KIB = 1024;
/** How long before its opening a sale gives challenges, unless it says otherwise, and at most. */
const [DEFAULT_VERIFY_AHEAD_MS, MAX_VERIFY_AHEAD_MS] = [10 * 60 * 1000, 30 * 60 * 1000];

/** What a shopper's own machine pays before an order is taken: a price, not a proof of a human. */
const verificationSchema = z.strictObject({
  kind: z.literal('proof_of_work').describe("A shopper's machine works for a ticket."),
  costKib: z
    .int()
    .min(64)
    .max(16_384)
    .refine((kib) => Number.isInteger(Math.log2(kib)), 'a power of two')
    .describe('KiB of memory of one try, a power of two. One of 256 tries succeeds.')
    .default(DEFAULT_WORK_KIB),
  aheadMs: z
    .int()
    .min(0)
    .max(MAX_VERIFY_AHEAD_MS)
    .describe('Milliseconds before the opening from which on the sale gives challenges.')
    .default(DEFAULT_VERIFY_AHEAD_MS),
});

export const saleSchema = z
  .strictObject({
    saleId: saleIdSchema,
    name: nameSchema.meta({ examples: ['Autumn lamps'] }),
    currency: z
      .string()
      .refine(isCurrency, 'a currency of ISO 4217 that is in use')
      .meta({ pattern: '^[A-Z]{3}$', description: 'ISO 4217.', examples: ['EUR'] }),
    /** Unix time in ms. */
    opensAtMs: z.int().min(MIN_SALE_TIME_MS).max(MAX_SALE_TIME_MS),
    closesAtMs: z.int().min(MIN_SALE_TIME_MS).max(MAX_SALE_TIME_MS),
    paused: z.boolean().describe('The sale accepts no order until it is resumed.'),
    paymentWindowMs: z
      .int()
      .min(1_000)
      .max(MAX_PAYMENT_WINDOW_MS)
      .meta({
        description: 'Milliseconds that a shopper may take to pay.',
        examples: [1_800_000],
      }),
    expiringNoticeMs: z
      .int()
      .min(1_000)
      .max(MAX_PAYMENT_WINDOW_MS)
      .optional()
      .describe(
        "Milliseconds before an order's deadline at which `order.expiring` tells the shop; absent: never.",
      ),
    refundRestoresLimit: z
      .boolean()
      .describe('The user of a refunded order may buy as much again.')
      .default(true),
    limitPerUser: z
      .int()
      .min(1)
      .max(MAX_SKU_TOTAL)
      .nullable()
      .describe('Units of all SKUs together that a user may hold or own; null: no limit.')
      .default(null),
    maxUnpaidHolds: z
      .int()
      .min(1)
      .max(MAX_UNPAID_HOLDS)
      .nullable()
      .describe(
        "Orders of a user that may end without a payment, by time-out or the shopper's cancel, before more are refused; null: no limit.",
      )
      .default(null),
    // Offices share one address.
    addressPurchasesPerMinute: z
      .int()
      .min(1)
      .max(MAX_ADDRESS_PURCHASES)
      .nullable()
      .describe('Attempts to buy from one address within a minute, at one machine; null: no limit.')
      .default(null),
    ticketRequired: z.boolean().describe("An order must carry a ticket of the shop's.").default(false),
    verification: verificationSchema
      .optional()
      .describe("An order must carry a ticket that was worked for, or one of the shop's."),
    reference: referenceSchema.optional(),
    metadata: metadataSchema.optional(),
    skus: skusOf(saleSku).describe('The SKUs, in the order in which they are shown.'),
  })
  .refine((sale) => sale.opensAtMs < sale.closesAtMs, {
    message: 'a sale opens before it closes',
    path: ['closesAtMs'],
  });

export type Sale = z.infer<typeof saleSchema>;
export const verificationJson = jsonText(verificationSchema);

/** Of a sale that shoppers may know of. Closed is final. */
export const SALE_STATES = ['scheduled', 'open', 'paused', 'closed'] as const;
export type SaleState = (typeof SALE_STATES)[number];

/** A pause also keeps a sale from opening. @param nowMs by the clock of the store that has the sale */
export function saleStateOf(
  { opensAtMs, closesAtMs, paused }: Pick<Sale, 'opensAtMs' | 'closesAtMs' | 'paused'>,
  nowMs: number,
): SaleState {
  if (nowMs >= closesAtMs) return 'closed';
  if (paused) return 'paused';
  return nowMs < opensAtMs ? 'scheduled' : 'open';
}

/** One SKU's units; in each store `total = available + held + sold` at every instant. */
export interface StockCount {
  sku: string;
  total: number;
  available: number;
  held: number;
  sold: number;
}

type Offer = Pick<StockCount & Sale['skus'][number], 'available' | 'held' | 'calledOff'>;

/** Units of a SKU that can be bought. */
export function buyableOf({ available, calledOff }: Omit<Offer, 'held'>): number {
  return calledOff ? 0 : available;
}

/** Whether no unit of these SKUs can be bought. @param isForGood also none that an unpaid order gives back */
export function isSoldOut(skus: readonly Offer[], isForGood: boolean): boolean {
  return skus.every(({ calledOff, available, held }) => calledOff || available + (isForGood ? held : 0) <= 0);
}

// A sale as its shop sees it: in the answers of the back office, and in events.

export const SHOP_SALE_STATES = ['draft', ...SALE_STATES, 'archived'] as const;
export type ShopSaleState = (typeof SHOP_SALE_STATES)[number];

/** @param nowMs by MySQL's clock */
export function shopStateOf({ sale, isDraft, isArchived, nowMs }: Snapshotted): ShopSaleState {
  if (isArchived) return 'archived';
  return isDraft ? 'draft' : saleStateOf(sale, nowMs);
}

interface Snapshotted extends SaleDocument {
  version: number;
  isArchived: boolean;
  nowMs: number;
}

/** @param stock of its SKUs; one that is not there has nothing held or sold */
export function snapshotSale(found: Snapshotted, stock: readonly StockCount[]) {
  const { sale, isDraft, version } = found;
  const state = shopStateOf(found);
  const counts = new Map(stock.map((count) => [count.sku, count]));
  const { opensAtMs, closesAtMs, skus, ...rules } = sale;
  return {
    ...rules,
    opensAt: new Date(opensAtMs).toISOString(),
    closesAt: new Date(closesAtMs).toISOString(),
    draft: isDraft,
    state,
    version,
    skus: skus.map((item) =>
      snapshotSku(item, counts.get(item.sku), sale.closesAtMs <= found.nowMs && !isDraft),
    ),
  };
}

/** What is free in a closed sale is unsold: no order can take it any more. */
function snapshotSku(item: Sale['skus'][number], count: StockCount | undefined, isClosed: boolean) {
  const { total, available, held, sold } = count ?? { ...item, available: item.total, held: 0, sold: 0 };
  const shown = buyableOf({ ...item, available });
  return { ...item, total, available: shown, held, sold, ...(isClosed ? { unsold: available } : {}) };
}

// What a shop may change about a sale, and what it has changed.

/** A draft is not for shoppers yet: all of it may still change, and it is never in Redis. */
export const saleDocumentSchema = z.object({ sale: saleSchema, isDraft: z.boolean() });

/** All that a shop decides about a sale. */
export type SaleDocument = z.infer<typeof saleDocumentSchema>;

/**
 * put: the whole document is replaced. patch: parts of it. stock: totals alone. call_off: of one SKU.
 * warm_up: the sale is put into Redis, and nothing else changes.
 */
export const CHANGE_ACTIONS = [
  'put',
  'patch',
  'stock',
  'pause',
  'resume',
  'close',
  'call_off',
  'warm_up',
] as const;
export type ChangeAction = (typeof CHANGE_ACTIONS)[number];

/** What Redis has decided of a sale, and sells it by. MySQL alone has the rule for refunds. */
export interface DecidedSale {
  /** Of the last change that was decided. */
  changeNo: number;
  /** Of the same; empty: it is not known. */
  changeId: string;
  epoch: number;
  sale: Omit<Sale, 'refundRestoresLimit' | 'expiringNoticeMs'>;
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

/** The first rule that a new document would break; undefined: none. For a sale that is in Redis. */
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
