/** What every answer and every event shows of an order, as of one version. */

import { orderDeadlineMs, type Order, type OrderState } from './order.ts';

/** What callers see of an order is fixed when it is accepted, except for its state. */
export type VisibleOrder = Pick<
  Order,
  | 'orderNo'
  | 'saleId'
  | 'items'
  | 'charges'
  | 'total'
  | 'currency'
  | 'reference'
  | 'metadata'
  | 'reservedAtMs'
  | 'paymentWindowMs'
>;

export function showOrder(order: VisibleOrder, state: OrderState) {
  return {
    orderNo: order.orderNo,
    saleId: order.saleId,
    status: state.status,
    version: state.version,
    payment: state.payment,
    refunded: state.refunded ?? 0,
    reason: state.reason,
    items: order.items,
    charges: order.charges ?? [],
    total: order.total,
    currency: order.currency,
    reference: order.reference ?? null,
    metadata: order.metadata ?? {},
    reservedAt: new Date(order.reservedAtMs).toISOString(),
    deadline: new Date(orderDeadlineMs(order)).toISOString(),
  };
}
