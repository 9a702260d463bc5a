/** Sales that a shop makes and changes, and what is announced of them. */

export const saleChanges = [
  // version: of what the shop decided, grows with each change of it. change_no: of the last recorded change,
  // also of those that were refused; Redis has the number of the last one that it decided.
  // pending_change_no: of the one that is recorded and not decided; null: none.
  `ALTER TABLE sales ADD COLUMN version INT UNSIGNED NOT NULL DEFAULT 1`,
  `ALTER TABLE sales ADD COLUMN change_no INT UNSIGNED NOT NULL DEFAULT 1`,
  `ALTER TABLE sales ADD COLUMN pending_change_no INT UNSIGNED NULL`,
  `ALTER TABLE sales ADD KEY sales_pending (pending_change_no)`,
  `ALTER TABLE sales ADD COLUMN draft BOOLEAN NOT NULL DEFAULT FALSE`,
  `ALTER TABLE sales ADD COLUMN limit_per_user INT UNSIGNED NULL`,
  `ALTER TABLE sales ADD COLUMN ticket_required BOOLEAN NOT NULL DEFAULT FALSE`,
  // reference and metadata are the shop's own; metadata is JSON.
  `ALTER TABLE sales ADD COLUMN reference VARCHAR(128) NULL`,
  `ALTER TABLE sales ADD COLUMN metadata VARCHAR(1024) NULL`,
  `ALTER TABLE skus ADD COLUMN reference VARCHAR(128) NULL`,
  `ALTER TABLE skus ADD COLUMN metadata VARCHAR(1024) NULL`,
  // A change concerns the whole sale, so its SKUs have no versions of their own.
  `ALTER TABLE skus DROP COLUMN version`,

  // When each was recorded and announced; null: not yet. sold_out_at is null again when units came back.
  // sold_out_count numbers the times.
  `ALTER TABLE sales ADD COLUMN opened_at DATETIME(3) NULL`,
  `ALTER TABLE sales ADD COLUMN sold_out_at DATETIME(3) NULL`,
  `ALTER TABLE sales ADD COLUMN sold_out_count INT UNSIGNED NOT NULL DEFAULT 0`,
  `ALTER TABLE sales ADD COLUMN closed_at DATETIME(3) NULL`,
  `ALTER TABLE sales ADD COLUMN settled_at DATETIME(3) NULL`,
  `ALTER TABLE sales ADD COLUMN archived_at DATETIME(3) NULL`,
  `ALTER TABLE sales ADD KEY sales_unsettled (settled_at, opens_at)`,
  // What is long over, or has opened, is no news.
  `UPDATE sales SET opened_at = opens_at WHERE opens_at <= NOW(3) AND warmed_up_at IS NOT NULL AND opened_at IS NULL`,
  `UPDATE sales SET closed_at = closes_at, settled_at = closes_at
   WHERE closes_at < NOW(3) - INTERVAL 7 DAY AND closed_at IS NULL`,

  // status: pending until Redis has decided it, then applied or refused. document and former: JSON of what
  // the sale becomes and was, while it is pending. sku, committed: why it was refused.
  `CREATE TABLE IF NOT EXISTS sale_changes (
    sale_id VARCHAR(32) NOT NULL,
    change_no INT UNSIGNED NOT NULL,
    action VARCHAR(10) NOT NULL,
    status VARCHAR(10) NOT NULL,
    document MEDIUMTEXT NULL,
    former MEDIUMTEXT NULL,
    sku VARCHAR(100) NULL,
    committed INT UNSIGNED NULL,
    actor VARCHAR(255) NOT NULL,
    reason VARCHAR(500) NULL,
    recorded_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    settled_at DATETIME(3) NULL,
    PRIMARY KEY (sale_id, change_no)
  ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
];
