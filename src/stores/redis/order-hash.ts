/** The hash of an order in Redis: what was accepted, and the projected state. */

import { z } from 'zod';
import { orderStateSchema } from '../../domain/order-state-schema.ts';
import { parseOrderNo, type Order, type OrderState, type ShopData } from '../../domain/order.ts';
import { shopDataOf, shopDataSchema } from '../../domain/shop-data.ts';
import { itemsJson } from './scripts.ts';

/** An order as Redis has it. */
export interface ReservedOrder {
  order: Order;
  state: OrderState;
}

/** Not `coerce` alone, which takes what is absent for zero. */
const int = z.string().transform(Number).pipe(z.int());

/** A field that a hash may lack: undefined, which a reply in JSON writes as false. */
function ifThere<T>(schema: z.ZodType<T, string>) {
  return z
    .union([schema, z.literal(false)])
    .optional()
    .transform((value) => (value === false ? undefined : value));
}

/** The fields as `reserve` and `reserve-again` write them; `project` updates the state's. */
export const orderHash = z.object({
  sale_id: z.string(),
  user_id: z.string(),
  items: itemsJson,
  total: int,
  currency: z.string(),
  idempotency_key: z.string(),
  reserved_at: int,
  payment_window: int,
  ip: z.string(),
  user_agent: z.string(),
  // Only where the shop added something.
  shop: ifThere(
    z
      .string()
      .transform((text) => JSON.parse(text) as unknown)
      .pipe(shopDataSchema),
  ),
  // Absent in a hash from before this field.
  epoch: ifThere(int),
  status: orderStateSchema.shape.status,
  version: int,
  payment: orderStateSchema.shape.payment,
  // Redis has no null: empty means none.
  reason: z
    .string()
    .transform((text) => (text === '' ? null : text))
    .pipe(orderStateSchema.shape.reason),
  // Absent where nothing went back. Read field by field, what is absent is false or null.
  refunded: z
    .union([int, z.literal(false), z.null()])
    .optional()
    .transform((refunded) => (typeof refunded === 'number' ? refunded : 0)),
});

/** In the order in which `hashOf` takes their values. */
export const ORDER_FIELDS = Object.keys(orderHash.shape);

/** The hash of these values of `ORDER_FIELDS`. */
export function hashOf(values: readonly unknown[]): Record<string, unknown> {
  const hash: Record<string, unknown> = {};
  for (const [i, field] of ORDER_FIELDS.entries()) hash[field] = values[i];
  return hash;
}

/** The value of `shop` in an order's hash; empty: the shop added nothing. */
export function toShopField(data: ShopData): string {
  const shop = shopDataOf(data);
  return Object.keys(shop).length === 0 ? '' : JSON.stringify(shop);
}

/** What the scripts write of an order that MySQL has. */
export function toOrderFields(order: Order, state: OrderState) {
  return {
    ...order,
    ...state,
    items: JSON.stringify(order.items),
    shop: toShopField(order),
    reason: state.reason ?? '',
  };
}

/** From the values of `ORDER_FIELDS`; undefined where Redis does not have it, or not whole. */
export function toReservedOrderIfWhole(
  orderNo: string,
  values: readonly unknown[] | false = false,
): ReservedOrder | undefined {
  const parsed = orderHash.safeParse(hashOf(values || []));
  return parsed.success ? fromHash(orderNo, parsed.data) : undefined;
}

/** @throws when `hash` is not as the scripts write it */
export function toReservedOrder(orderNo: string, hash: Record<string, unknown>): ReservedOrder {
  return fromHash(orderNo, orderHash.parse(hash));
}

function fromHash(orderNo: string, parsed: z.infer<typeof orderHash>): ReservedOrder {
  const { status, version, payment, reason, refunded, epoch, shop } = parsed;
  const isReservedAgain = epoch !== undefined && epoch !== parseOrderNo(orderNo)?.epoch;
  return {
    order: {
      orderNo,
      saleId: parsed.sale_id,
      userId: parsed.user_id,
      items: parsed.items,
      total: parsed.total,
      currency: parsed.currency,
      idempotencyKey: parsed.idempotency_key,
      reservedAtMs: parsed.reserved_at,
      paymentWindowMs: parsed.payment_window,
      ip: parsed.ip,
      userAgent: parsed.user_agent,
      ...shop,
      ...(isReservedAgain && { holdEpoch: epoch }),
    },
    state: { status, version, payment, reason, ...(refunded > 0 && { refunded }) },
  };
}
