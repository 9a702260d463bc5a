/**
 * The schema of refunds and disputes, and of the limits and stock that are given back with them. Each
 * statement adds one column, so that each may be repeated.
 */

export const moneyBack = [
  `ALTER TABLE sales ADD COLUMN refund_restores_limit BOOLEAN NOT NULL DEFAULT TRUE`,

  // What the paid order gave back to its sale, each at most once.
  `ALTER TABLE orders ADD COLUMN limit_returned BOOLEAN NOT NULL DEFAULT FALSE`,
  `ALTER TABLE orders ADD COLUMN stock_returned BOOLEAN NOT NULL DEFAULT FALSE`,

  `ALTER TABLE payment_sessions ADD COLUMN sealed_order TEXT NULL`,

  // applied_at: when the payment paid for its order. It stays when the payment is refunded, and so marks the
  // order's own payment among all others.
  // engine_due_at: when the relay is to start or signal the payment's refund workflow; null: neither.
  `ALTER TABLE payments ADD COLUMN sealed_order TEXT NULL`,
  `ALTER TABLE payments ADD COLUMN applied_at DATETIME(3) NULL`,
  `ALTER TABLE payments ADD COLUMN refund_reason VARCHAR(32) NULL`,
  `ALTER TABLE payments ADD COLUMN refund_refusals INT UNSIGNED NOT NULL DEFAULT 0`,
  `ALTER TABLE payments ADD COLUMN engine_due_at DATETIME(3) NULL`,
  `ALTER TABLE payments ADD KEY payments_due (engine_due_at)`,

  // All known refunds and disputes, also those whose payment is not known yet.
  `CREATE TABLE IF NOT EXISTS reversals (
    reversal_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    provider VARCHAR(20) NOT NULL,
    provider_reversal_id VARCHAR(128) NOT NULL,
    kind VARCHAR(10) NOT NULL,
    provider_payment_id VARCHAR(128) NOT NULL,
    amount BIGINT UNSIGNED NOT NULL,
    currency CHAR(3) NOT NULL,
    status VARCHAR(10) NOT NULL,
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    updated_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
    UNIQUE KEY reversals_once (provider, provider_reversal_id),
    KEY reversals_of_payment (provider, provider_payment_id)
  ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,

  // Payments that were decided before these columns existed.
  `UPDATE payments SET applied_at = updated_at, updated_at = updated_at WHERE status = 'applied' AND applied_at IS NULL`,
  `UPDATE payments SET engine_due_at = NOW(3) WHERE status = 'refund_due' AND engine_due_at IS NULL`,
];
