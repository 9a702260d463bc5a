/** Which deployment the stores belong to: a random id, by which Redis, Temporal and the provider know it. */

export const deployment = [
  // One row. name: what its processes are called. format: `STORES_FORMAT` of the code that may work with it.
  // redis_id: the Redis by which it sells; redis_seen_at: when that was last seen to be there.
  `CREATE TABLE IF NOT EXISTS deployment (
    only_row TINYINT UNSIGNED NOT NULL PRIMARY KEY DEFAULT 1,
    deployment_id VARCHAR(32) NOT NULL,
    name VARCHAR(32) NULL,
    format INT UNSIGNED NOT NULL,
    redis_id VARCHAR(32) NULL,
    redis_seen_at DATETIME(3) NULL,
    CONSTRAINT deployment_once CHECK (only_row = 1)
  ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
  `INSERT IGNORE INTO deployment (only_row, deployment_id, format)
   VALUES (1, LOWER(HEX(RANDOM_BYTES(12))), 1)`,
];
