/** What staff may ask to send back of an order's payment, as a call or a command says it. */

import { hash } from 'node:crypto';
import { z } from 'zod';
import { skuSchema } from './ids.ts';
import { MAX_CART_LINES, MAX_DECISION_CHARS, MAX_LINE_QUANTITY } from './limits.ts';
import type { OrderUnits } from './order.ts';

/**
 * all: what is left of the money, and of the units. money: so many minor units. units: of these SKUs, for
 * what they cost or for another amount, with the charges of the order where asked for.
 */
export type RefundWish = {
  restock: boolean;
  /** By default the sale's rule. */
  restoresLimit: boolean | undefined;
} & (
  | { kind: 'all' }
  | { kind: 'money'; amount: number }
  | { kind: 'units'; items: OrderUnits[]; amount: number | undefined; charges: boolean }
);

/** `amount` in minor units. Neither that nor lines: all that is left. */
export const refundRequestSchema = z
  .strictObject({
    amount: z.int().min(0).optional(),
    lines: z
      .array(z.strictObject({ sku: skuSchema, quantity: z.int().min(1).max(MAX_LINE_QUANTITY) }))
      .min(1)
      .max(MAX_CART_LINES)
      .refine((lines) => new Set(lines.map(({ sku }) => sku)).size === lines.length, 'each SKU once')
      .optional(),
    charges: z.boolean().default(false),
    restock: z.boolean().default(false),
    restoreLimit: z.boolean().optional(),
    reason: z.string().trim().min(1).max(MAX_DECISION_CHARS).optional(),
  })
  .refine(({ amount, lines }) => lines !== undefined || amount !== 0, {
    path: ['amount'],
    message: 'at least 1, unless it is for lines',
  })
  .refine(({ amount, lines, charges }) => !charges || (lines !== undefined && amount === undefined), {
    path: ['charges'],
    message: 'only for lines, and without an amount',
  })
  .refine(({ amount, lines, restock }) => lines !== undefined || amount === undefined || !restock, {
    path: ['restock'],
    message: 'only for lines, or for all that is left',
  })
  .refine(({ amount, lines, restoreLimit }) => lines !== undefined || amount === undefined || !restoreLimit, {
    path: ['restoreLimit'],
    message: 'only for lines, or for all that is left',
  });
export type RefundRequest = z.infer<typeof refundRequestSchema>;

export function toRefundWish({ amount, lines, charges, restock, restoreLimit }: RefundRequest): RefundWish {
  const rules = { restock, restoresLimit: restoreLimit };
  if (lines) return { ...rules, kind: 'units', items: lines, amount, charges };
  return amount === undefined ? { ...rules, kind: 'all' } : { ...rules, kind: 'money', amount };
}

/** A digest by which the reuse of a key for another request is noticed. The order of the lines is no part. */
export function fingerprintOfRefund({ lines, ...request }: RefundRequest): string {
  const sorted = lines?.map(({ sku, quantity }) => JSON.stringify([sku, quantity])).toSorted();
  return hash('sha256', JSON.stringify([request, sorted ?? null]), 'base64url');
}
