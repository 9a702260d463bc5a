/**
 * Lets a sale's data in Redis be made again. rebuilding_since: a rebuild has begun and is not finished; null:
 * none. rebuilt_at: when the last one was finished.
 */

export const rebuild = [
  `ALTER TABLE sales ADD COLUMN rebuilding_since DATETIME(3) NULL`,
  `ALTER TABLE sales ADD COLUMN rebuilt_at DATETIME(3) NULL`,
];
