/** The answers about sales that the back office gets. */

import { z } from 'zod';
import { SHOP_SALE_STATES } from '../../domain/sale-snapshot.ts';
import { count, saleReply, skuReply } from './replies.ts';

/** A sale with all that its shop decided, and its stock. */
export const shopSaleReply = saleReply.extend({
  state: z.enum(SHOP_SALE_STATES),
  draft: z.boolean(),
  refundRestoresLimit: z.boolean(),
  /** Of what the shop decided: the `ETag`. */
  version: z.int().min(1),
  /** A change is recorded, and not made yet. */
  pending: z.boolean(),
  skus: z.array(
    skuReply.extend({
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
