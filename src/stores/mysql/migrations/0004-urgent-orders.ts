/** Lets the relay find due orders that are to be cancelled without reading all that wait to be started. */

export const urgentOrders = [
  `ALTER TABLE orders
    ADD KEY orders_due (payment, closing_reason, engine_due_at, workflow_started_at, sale_id)`,
  `ALTER TABLE orders DROP KEY orders_hand_over`,
];
