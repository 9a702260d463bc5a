/** Refunds in part, what they give back, and how staff find orders. */

export const aftersale = [
  // Minor units of the order's own payment that went back.
  `ALTER TABLE orders ADD COLUMN refunded BIGINT UNSIGNED NOT NULL DEFAULT 0`,
  `UPDATE orders o JOIN (
     SELECT p.order_no, p.amount, SUM(r.amount) AS back FROM reversals r
     JOIN payments p ON p.provider = r.provider AND p.provider_payment_id = r.provider_payment_id
     WHERE r.status = 'succeeded' AND r.currency = p.currency AND p.applied_at IS NOT NULL
     GROUP BY p.order_no, p.amount
   ) b ON b.order_no = o.order_no SET o.refunded = LEAST(b.back, b.amount) WHERE o.refunded = 0`,
  `UPDATE order_events e JOIN orders o ON o.order_no = e.order_no AND o.version = e.version
   SET e.refunded = o.refunded WHERE o.refunded > 0 AND e.refunded = 0`,

  // Staff list the orders of a sale that have one status.
  `ALTER TABLE orders ADD KEY orders_of_sale_status (sale_id, status)`,

  // Minor units that are to go back in all, by all requests; null: all of it where refund_reason is set, and
  // otherwise nothing.
  `ALTER TABLE payments ADD COLUMN refund_target BIGINT UNSIGNED NULL`,

  // Units of the line that are on sale again, and those that no longer count against the user's limit. Where
  // the order's own flag says that all went back, these do not count.
  `ALTER TABLE order_items ADD COLUMN stock_returned INT UNSIGNED NOT NULL DEFAULT 0`,
  `ALTER TABLE order_items ADD COLUMN limit_returned INT UNSIGNED NOT NULL DEFAULT 0`,

  // part: of a return, the refund that it belongs to; empty: all units that were left, or another movement.
  `ALTER TABLE stock_ledger ADD COLUMN part VARCHAR(20) NOT NULL DEFAULT ''`,
  `ALTER TABLE stock_ledger ADD UNIQUE KEY ledger_once_a_part (order_no, sku, movement, part)`,
  `ALTER TABLE stock_ledger DROP KEY ledger_once`,

  // What staff decided to send back of an order's payment. target: what has gone back of the payment, in
  // minor units, once this refund has ended. items: JSON, the units that it is about; null: none. given_back:
  // what it gives back is booked; stock_given, limit_given: what that was. status: requested, succeeded,
  // failed (withdrawn).
  `CREATE TABLE IF NOT EXISTS refunds (
    refund_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    order_no VARCHAR(80) NOT NULL,
    payment_id BIGINT UNSIGNED NOT NULL,
    amount BIGINT UNSIGNED NOT NULL,
    target BIGINT UNSIGNED NOT NULL,
    items TEXT NULL,
    charges BOOLEAN NOT NULL DEFAULT FALSE,
    restock BOOLEAN NOT NULL,
    restores_limit BOOLEAN NOT NULL,
    given_back BOOLEAN NOT NULL DEFAULT FALSE,
    stock_given BOOLEAN NOT NULL DEFAULT FALSE,
    limit_given BOOLEAN NOT NULL DEFAULT FALSE,
    reason VARCHAR(500) NULL,
    actor VARCHAR(255) NOT NULL,
    idempotency_key VARCHAR(128) NULL,
    fingerprint CHAR(43) NULL,
    status VARCHAR(10) NOT NULL,
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    ended_at DATETIME(3) NULL,
    UNIQUE KEY refunds_request (order_no, idempotency_key),
    KEY refunds_of_payment (payment_id, target)
  ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
];
