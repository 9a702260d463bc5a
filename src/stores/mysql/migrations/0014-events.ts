/** The feed of events: the public sequence of order events, all other events, and their consumers. */

export const events = [
  // The public sequence, given after the commit; null: not yet. An order's changes from before the feed have
  // 0 and are not in it: existing rows keep the default with which the column was added, unwritten.
  `ALTER TABLE order_events ADD COLUMN sequence BIGINT UNSIGNED NULL DEFAULT 0`,
  `ALTER TABLE order_events ALTER COLUMN sequence SET DEFAULT NULL`,
  // Not unique: checking that would lock a gap into which every new row goes.
  `ALTER TABLE order_events ADD KEY order_events_sequence (sequence)`,

  // Minor units of the order's own payment that had gone back by then.
  `ALTER TABLE order_events ADD COLUMN refunded BIGINT UNSIGNED NOT NULL DEFAULT 0`,

  // All other events. subject: the id of what it is about. data: JSON, as consumers get it.
  `CREATE TABLE IF NOT EXISTS shop_events (
    event_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    type VARCHAR(40) NOT NULL,
    sale_id VARCHAR(32) NULL,
    subject VARCHAR(255) NOT NULL,
    data MEDIUMTEXT NOT NULL,
    occurred_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    sequence BIGINT UNSIGNED NULL,
    KEY shop_events_sequence (sequence),
    KEY shop_events_of_subject (type, subject, event_id)
  ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,

  // One row. Its lock makes one dispatcher of all. begun_at: what was parked before has no event.
  `CREATE TABLE IF NOT EXISTS event_dispatch (
    dispatch_id TINYINT UNSIGNED NOT NULL PRIMARY KEY,
    last_sequence BIGINT UNSIGNED NOT NULL,
    begun_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
  ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
  `INSERT INTO event_dispatch (dispatch_id, last_sequence) VALUES (1, 0)
   ON DUPLICATE KEY UPDATE dispatch_id = dispatch_id`,

  // position: the sequence of the last event that the consumer has done with.
  `CREATE TABLE IF NOT EXISTS event_consumers (
    name VARCHAR(64) NOT NULL PRIMARY KEY,
    position BIGINT UNSIGNED NOT NULL,
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    updated_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3)
  ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
];
