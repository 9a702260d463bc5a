/** A sale: a shop's event with a window of time, its SKUs and its rules. */

import { z } from 'zod';
import { skuSchema } from './ids.ts';
import {
  MAX_PAYMENT_WINDOW_MS,
  MAX_SALE_SKUS,
  MAX_SALE_TIME_MS,
  MAX_SKU_TOTAL,
  MAX_UNIT_PRICE,
  MIN_SALE_TIME_MS,
  SALE_ID_PATTERN,
} from './limits.ts';
import { metadataSchema, referenceSchema } from './shop-data.ts';

/** Control characters, invisible ones, and halves of a pair that stand alone. */
const UNPRINTABLE = /\p{C}/u;
const nameSchema = z
  .string()
  .min(1)
  .max(200)
  .refine((text) => !UNPRINTABLE.test(text), 'printable characters only');

/** Of the codes with an X that are money; the others are metals, units of account, tests, or nothing. */
const SHARED_CURRENCIES = ['XAF', 'XCD', 'XCG', 'XOF', 'XPF'];
const CURRENCIES = new Set(Intl.supportedValuesOf('currency'));

function isCurrency(code: string): boolean {
  return CURRENCIES.has(code) && (!code.startsWith('X') || SHARED_CURRENCIES.includes(code));
}

const saleSku = z.strictObject({
  sku: skuSchema,
  name: nameSchema,
  /** Minor units of the sale's currency. Never 0, because only a payment makes an order `paid`. */
  unitPrice: z.int().min(1).max(MAX_UNIT_PRICE),
  /** Units on sale. */
  total: z.int().min(0).max(MAX_SKU_TOTAL),
  /** Units one user may hold or own at a time; null: no limit. */
  limitPerUser: z.int().min(1).max(MAX_SKU_TOTAL).nullable().default(null),
  reference: referenceSchema.optional(),
  metadata: metadataSchema.optional(),
});

export const saleSchema = z
  .strictObject({
    saleId: z.string().regex(SALE_ID_PATTERN),
    name: nameSchema,
    /** ISO 4217. */
    currency: z.string().refine(isCurrency, 'a currency of ISO 4217 that is in use'),
    /** Unix time in ms. */
    opensAtMs: z.int().min(MIN_SALE_TIME_MS).max(MAX_SALE_TIME_MS),
    closesAtMs: z.int().min(MIN_SALE_TIME_MS).max(MAX_SALE_TIME_MS),
    paused: z.boolean(),
    /** How long a shopper may take to pay, in ms. */
    paymentWindowMs: z.int().min(1_000).max(MAX_PAYMENT_WINDOW_MS),
    /** Whether the user of a refunded order may buy as much again. */
    refundRestoresLimit: z.boolean().default(true),
    /** Units of all SKUs together that one user may hold or own at a time; null: no limit. */
    limitPerUser: z.int().min(1).max(MAX_SKU_TOTAL).nullable().default(null),
    /** Whether an order must carry a ticket of the shop's. */
    ticketRequired: z.boolean().default(false),
    reference: referenceSchema.optional(),
    metadata: metadataSchema.optional(),
    skus: z
      .array(saleSku)
      .min(1)
      .max(MAX_SALE_SKUS)
      .refine((skus) => new Set(skus.map(({ sku }) => sku)).size === skus.length, 'each SKU once'),
  })
  .refine((sale) => sale.opensAtMs < sale.closesAtMs, {
    message: 'a sale opens before it closes',
    path: ['closesAtMs'],
  });

export type Sale = z.infer<typeof saleSchema>;

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
