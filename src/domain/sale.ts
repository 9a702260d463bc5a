/** A sale: a shop's event with a window of time, its SKUs and its rules. */

import { z } from 'zod';
import { skuSchema } from './ids.ts';
import {
  MAX_PAYMENT_WINDOW_MS,
  MAX_SALE_SKUS,
  MAX_SKU_TOTAL,
  MAX_UNIT_PRICE,
  SALE_ID_PATTERN,
} from './limits.ts';

const saleSku = z.strictObject({
  sku: skuSchema,
  name: z.string().min(1).max(200),
  /** Minor units of the sale's currency. Never 0, because only a payment makes an order `paid`. */
  unitPrice: z.int().min(1).max(MAX_UNIT_PRICE),
  /** Units on sale. */
  total: z.int().min(0).max(MAX_SKU_TOTAL),
  /** Units one user may hold or own at a time; null: no limit. */
  limitPerUser: z.int().min(1).max(MAX_SKU_TOTAL).nullable(),
});

export const saleSchema = z
  .strictObject({
    saleId: z.string().regex(SALE_ID_PATTERN),
    name: z.string().min(1).max(200),
    /** ISO 4217. */
    currency: z.string().regex(/^[A-Z]{3}$/),
    /** Unix time in ms. */
    opensAtMs: z.int(),
    closesAtMs: z.int(),
    paused: z.boolean(),
    /** How long a shopper may take to pay, in ms. */
    paymentWindowMs: z.int().min(1_000).max(MAX_PAYMENT_WINDOW_MS),
    /** Whether the user of a refunded order may buy as much again. */
    refundRestoresLimit: z.boolean().default(true),
    skus: z
      .array(saleSku)
      .min(1)
      .max(MAX_SALE_SKUS)
      .refine((skus) => new Set(skus.map(({ sku }) => sku)).size === skus.length, 'each SKU once'),
  })
  .refine((sale) => sale.opensAtMs < sale.closesAtMs, 'a sale opens before it closes');

export type Sale = z.infer<typeof saleSchema>;

/** One SKU's units; in each store `total = available + held + sold` at every instant. */
export interface StockCount {
  sku: string;
  total: number;
  available: number;
  held: number;
  sold: number;
}
