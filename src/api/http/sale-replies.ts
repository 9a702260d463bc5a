/** The answers about sales that the back office gets. */

import { z } from 'zod';
import { SHOP_SALE_STATES } from '../../domain/sale-snapshot.ts';
import { amount, count, shopData, time } from './replies.ts';

/** A sale with all that its shop decided, and its stock. */
export const shopSaleReply = z.strictObject({
  saleId: z.string(),
  name: z.string(),
  currency: z.string().length(3),
  opensAt: time,
  closesAt: time,
  paused: z.boolean(),
  draft: z.boolean(),
  state: z.enum(SHOP_SALE_STATES),
  paymentWindowMs: z.int().min(1),
  refundRestoresLimit: z.boolean(),
  limitPerUser: z.int().min(1).nullable(),
  ticketRequired: z.boolean(),
  ...shopData,
  /** Of what the shop decided: the `ETag`. */
  version: z.int().min(1),
  /** A change is recorded, and not made yet. */
  pending: z.boolean(),
  skus: z.array(
    z.strictObject({
      sku: z.string(),
      name: z.string(),
      unitPrice: amount,
      limitPerUser: z.int().min(1).nullable(),
      ...shopData,
      total: count,
      available: count,
      held: count,
      sold: count,
      /** Of a closed sale. */
      unsold: count.optional(),
    }),
  ),
});
export type ShopSaleReply = z.infer<typeof shopSaleReply>;

export const salesReply = z.strictObject({
  sales: z.array(shopSaleReply),
  /** For `after`; null: there are no more. */
  next: z.string().nullable(),
});
export type SalesReply = z.infer<typeof salesReply>;
