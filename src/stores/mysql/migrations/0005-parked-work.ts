/** Gives parked work its cause and how often it came up, and the log of actions the reason for each. */

export const parkedWork = [
  // cause: a stable code. inputs: JSON, what the step was given. last_error: the newest reason, `reason` the
  // first one. settled_by: who ended the parking, `rules` or `operator`.
  `ALTER TABLE parked ADD COLUMN cause VARCHAR(40) NOT NULL DEFAULT 'unspecified'`,
  `ALTER TABLE parked ADD COLUMN inputs TEXT NULL`,
  `ALTER TABLE parked ADD COLUMN last_error VARCHAR(500) NULL`,
  `ALTER TABLE parked ADD COLUMN last_seen_at DATETIME(3) NULL`,
  `ALTER TABLE parked ADD COLUMN times INT UNSIGNED NOT NULL DEFAULT 1`,
  `ALTER TABLE parked ADD COLUMN settled_by VARCHAR(10) NULL`,
  // A provider's payment id, or a sale shard with the id of an outbox entry.
  `ALTER TABLE parked MODIFY COLUMN reference VARCHAR(255) NOT NULL`,
  `ALTER TABLE parked ADD KEY parked_open (resolved_at, parked_id)`,
  `UPDATE parked SET last_error = reason, last_seen_at = parked_at WHERE last_seen_at IS NULL`,

  `ALTER TABLE audit_log ADD COLUMN reason VARCHAR(500) NULL`,
  `ALTER TABLE audit_log ADD KEY audit_log_of_subject (subject, entry_id)`,
];
