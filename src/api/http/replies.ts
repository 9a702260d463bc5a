/**
 * What several JSON answers of the API share; each answer stands beside its call. Handlers have their types
 * from these schemas, and every answer that a test gets is checked against them; in production nothing is
 * checked, for that would cost each caller time.
 */

import { z } from 'zod';
import { shownContent, orderStateSchema, saleIdSchema, skuSchema } from '../../orders/content.ts';

export const time = z.iso.datetime().meta({
  description: 'RFC 3339, UTC, with milliseconds.',
  examples: ['2026-11-21T10:00:00.000Z'],
});
export const amount = z
  .int()
  .min(0)
  .meta({ description: 'Minor units of the currency.', examples: [4900] });
export const count = z.int().min(0);
export const shownCurrency = z
  .string()
  .length(3)
  .meta({ description: 'ISO 4217.', examples: ['EUR'] });
export const shownOrderNo = z.string().meta({
  description: "The order's number.",
  examples: ['demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG'],
});
export const shownQuantity = z.int().min(1).describe('Units of the SKU.');
export const nextPage = z
  .string()
  .nullable()
  .meta({ description: 'The `after` of the next page; null: this is the last page.', examples: [null] });
/** As `nextPage`, in a list whose entries have numbers. */
export const nextNumber = z
  .int()
  .nullable()
  .meta({ description: 'The `after` of the next page; null: this is the last page.', examples: [null] });

/** @param found one entry more than the page has, if there are more */
export function pageOf<T>(
  found: readonly T[],
  limit: number,
  numberOf: (entry: T) => number,
): { page: T[]; next: number | null } {
  const page = found.slice(0, limit);
  const last = found.length > limit ? page.at(-1) : undefined;
  return { page, next: last === undefined ? null : numberOf(last) };
}

/** Of a 204. */
export const noBody = z.literal('');

/** An order, in each answer that shows one. */
export const orderReply = z
  .strictObject({
    orderNo: shownOrderNo,
    saleId: saleIdSchema,
    // Its deadline is shown as such.
    ...orderStateSchema.omit({ extendedUntilMs: true }).shape,
    refunded: amount.meta({
      description: 'Minor units of the total that went back, by refunds and lost chargebacks.',
      examples: [0],
    }),
    closing: z.boolean().describe('The end of the order is under way. A payment may still win.'),
    items: z
      .array(
        z.strictObject({
          sku: skuSchema,
          quantity: shownQuantity.meta({ examples: [2] }),
          unitPrice: amount.describe('Minor units of the currency, as the price was at the purchase.'),
        }),
      )
      .describe('The lines of the cart.'),
    total: amount.meta({
      description: 'Minor units of the currency: the sum of items and charges.',
      examples: [10_295],
    }),
    currency: shownCurrency,
    ...shownContent,
    reservedAt: time.describe('When the order was accepted, and its stock held.'),
    deadline: time.meta({
      description: 'Until then a payment can be started.',
      examples: ['2026-11-21T10:30:00.000Z'],
    }),
    pollAfterMs: z
      .int()
      .min(1)
      .nullable()
      .meta({
        description: 'Milliseconds after which to ask again; null: never, the status is final.',
        examples: [2000],
      }),
  })
  .meta({ id: 'Order', description: 'An order.' });
export type OrderReply = z.infer<typeof orderReply>;

/** An open order of the caller, where another one is refused: what is needed to go and pay it. */
export const openOrderReply = orderReply.pick({
  orderNo: true,
  status: true,
  payment: true,
  closing: true,
  items: true,
  total: true,
  currency: true,
  deadline: true,
});
export type OpenOrderReply = z.infer<typeof openOrderReply>;

// The answers about orders and refunds that staff get.

// The answers about the feed of events.

// The answers about endpoints of push.
