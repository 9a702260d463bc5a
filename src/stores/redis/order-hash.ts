/** The hash of an order in Redis: what was accepted, and the projected state. */

import { z } from 'zod';
import { carriedText, orderStateSchema, type Order } from '../../domain/content.ts';
import { parseOrderNo, type OrderState } from '../../domain/order.ts';
import { itemsJson, jsonText } from './scripts.ts';

/** An order as Redis has it. */
export interface ReservedOrder {
  order: Order;
  state: OrderState;
}

/** Not `coerce` alone, which takes what is absent for zero. */
const int = z.string().transform(Number).pipe(z.int());

/** The fields as `lua/shared/write-order.lua` writes them; `project` updates the state's. */
export const orderHash = z.object({
  sale_id: z.string(),
  user_id: z.string(),
  items: itemsJson,
  total: int,
  currency: z.string(),
  idempotency_key: z.string(),
  reserved_at: int,
  payment_window: int,
  carried: jsonText(carriedText.inRedis.schema),
  epoch: int,
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

/** What the scripts write of an order that MySQL has. */
export function toOrderFields(order: Order, state: OrderState) {
  return {
    ...order,
    ...state,
    items: JSON.stringify(order.items),
    carried: carriedText.inRedis.write(order),
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
  const { status, version, payment, reason, refunded, epoch } = parsed;
  const isReservedAgain = epoch !== parseOrderNo(orderNo)?.epoch;
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
      ...parsed.carried,
      ...(isReservedAgain && { holdEpoch: epoch }),
    },
    state: { status, version, payment, reason, ...(refunded > 0 && { refunded }) },
  };
}
