/** The schema of push: the shop's endpoints, and what is delivered to each. */

export const push = [
  // types: a JSON list, null: all. disabled_for: `operator` or `gone` (it answered 410), null: it is active.
  // fed_sequence: the last event that was looked at for this endpoint. replay_*: the events that are to be
  // delivered again, by sequence and by time; null: none are. failed_probes: since the endpoint counts as
  // down. removed_at: its rows are being deleted, and its name is free.
  `CREATE TABLE IF NOT EXISTS push_endpoints (
    endpoint_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(64) NOT NULL,
    url VARCHAR(2048) NOT NULL,
    types TEXT NULL,
    sale_id VARCHAR(32) NULL,
    description VARCHAR(255) NOT NULL,
    disabled_for VARCHAR(10) NULL,
    secret VARCHAR(100) NOT NULL,
    former_secret VARCHAR(100) NULL,
    former_until DATETIME(3) NULL,
    fed_sequence BIGINT UNSIGNED NOT NULL,
    replay_after BIGINT UNSIGNED NULL,
    replay_until BIGINT UNSIGNED NULL,
    replay_since DATETIME(3) NULL,
    replay_before DATETIME(3) NULL,
    failures INT UNSIGNED NOT NULL DEFAULT 0,
    failed_probes INT UNSIGNED NOT NULL DEFAULT 0,
    failing_since DATETIME(3) NULL,
    probe_at DATETIME(3) NULL,
    last_success_at DATETIME(3) NULL,
    last_error VARCHAR(255) NULL,
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    removed_at DATETIME(3) NULL,
    UNIQUE KEY push_endpoints_name (name)
  ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,

  // sequence: null for a test, which is no event. line: deliveries of one line go one after the other, by
  // their ids; the order's number, or the sale. status: waiting, delivered or parked. due_at: null where it
  // has ended, or waits for the one before it in its line. claimed_until: a worker delivers it.
  `CREATE TABLE IF NOT EXISTS push_deliveries (
    delivery_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    endpoint_id BIGINT UNSIGNED NOT NULL,
    event_id VARCHAR(128) NOT NULL,
    sequence BIGINT UNSIGNED NULL,
    line VARCHAR(128) NOT NULL,
    status VARCHAR(10) NOT NULL,
    attempts INT UNSIGNED NOT NULL DEFAULT 0,
    due_at DATETIME(3) NULL,
    claimed_until DATETIME(3) NULL,
    last_error VARCHAR(255) NULL,
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    ended_at DATETIME(3) NULL,
    UNIQUE KEY push_deliveries_once (endpoint_id, event_id),
    KEY push_deliveries_due (endpoint_id, due_at, delivery_id),
    KEY push_deliveries_line (endpoint_id, line, status, delivery_id),
    KEY push_deliveries_status (endpoint_id, status, delivery_id),
    KEY push_deliveries_claimed (endpoint_id, claimed_until),
    KEY push_deliveries_ended (ended_at)
  ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
];
