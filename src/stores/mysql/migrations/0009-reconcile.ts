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
];
