/** What becomes of a delivery to one of the shop's endpoints. */

/** waiting: to be delivered. delivered: answered 2xx. parked: its last try failed. */
export const DELIVERY_STATUSES = ['waiting', 'delivered', 'parked'] as const;
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];
