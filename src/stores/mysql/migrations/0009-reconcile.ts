/** What the reconciliation remembers, and the indexes by which it cleans up. */

export const reconcile = [
  // Where a walk goes on in its next run.
  `CREATE TABLE IF NOT EXISTS reconcile_places (
    walk VARCHAR(100) NOT NULL PRIMARY KEY,
    place VARCHAR(255) NOT NULL,
    updated_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3)
  ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,

  // The sums of the ledger, by which drift is found each minute, from the index alone.
  `ALTER TABLE stock_ledger ADD KEY ledger_sums (sale_id, movement, sku, quantity)`,

  // When the sale's data in Redis were removed for good, long after its end; null: not yet.
  `ALTER TABLE sales ADD COLUMN redis_cleaned_at DATETIME(3) NULL`,

  // Whether the order still has its ip and user agent, and its sessions and payments the signed order.
  `ALTER TABLE orders ADD COLUMN contact_kept BOOLEAN NOT NULL DEFAULT TRUE`,
  `ALTER TABLE orders ADD KEY orders_contact (contact_kept, reserved_at)`,

  // Persons whose data are being erased, with the token that takes the place of their user id. A row goes
  // away with the end of its erasure, and with it the last link between the two.
  `CREATE TABLE IF NOT EXISTS erasures (
    user_id VARCHAR(128) NOT NULL PRIMARY KEY,
    token VARCHAR(128) NOT NULL,
    begun_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
  ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
];
