/** The first schema. All times are UTC, all amounts minor units. */

export const initial = [
  `CREATE TABLE IF NOT EXISTS sales (
    sale_id VARCHAR(32) NOT NULL PRIMARY KEY,
    name VARCHAR(200) NOT NULL,
    currency CHAR(3) NOT NULL,
    opens_at DATETIME(3) NOT NULL,
    closes_at DATETIME(3) NOT NULL,
    payment_window_ms INT UNSIGNED NOT NULL,
    paused BOOLEAN NOT NULL DEFAULT FALSE,
    epoch INT UNSIGNED NOT NULL DEFAULT 1,
    warmed_up_at DATETIME(3) NULL,
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
  )`,

  // No foreign key refers to this table: its shared lock on the row would deadlock with the counters' update.
  `CREATE TABLE IF NOT EXISTS skus (
    sale_id VARCHAR(32) NOT NULL,
    sku VARCHAR(64) NOT NULL,
    name VARCHAR(200) NOT NULL,
    unit_price BIGINT UNSIGNED NOT NULL,
    limit_per_user INT UNSIGNED NULL,
    total INT UNSIGNED NOT NULL,
    held INT UNSIGNED NOT NULL DEFAULT 0,
    sold INT UNSIGNED NOT NULL DEFAULT 0,
    version INT UNSIGNED NOT NULL DEFAULT 0,
    position INT UNSIGNED NOT NULL,
    PRIMARY KEY (sale_id, sku),
    CONSTRAINT skus_never_oversold CHECK (held + sold <= total)
  )`,

  // workflow_started_at: null while the order is only stored ahead.
  // engine_due_at: when the relay is to start the order's workflow, or signal it about a payment or a cancel;
  // null: neither.
  `CREATE TABLE IF NOT EXISTS orders (
    order_no VARCHAR(80) NOT NULL PRIMARY KEY,
    sale_id VARCHAR(32) NOT NULL,
    user_id VARCHAR(128) NOT NULL,
    idempotency_key VARCHAR(128) NULL,
    status VARCHAR(20) NOT NULL,
    payment VARCHAR(10) NOT NULL,
    version INT UNSIGNED NOT NULL,
    epoch INT UNSIGNED NOT NULL,
    batch_id CHAR(26) NOT NULL,
    total BIGINT UNSIGNED NOT NULL,
    currency CHAR(3) NOT NULL,
    ip VARCHAR(45) NOT NULL,
    user_agent VARCHAR(255) NOT NULL,
    reserved_at DATETIME(3) NOT NULL,
    payment_window_ms INT UNSIGNED NOT NULL,
    deadline DATETIME(3) NOT NULL,
    closing_reason VARCHAR(32) NULL,
    workflow_started_at DATETIME(3) NULL,
    engine_due_at DATETIME(3) NULL,
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    UNIQUE KEY orders_request (sale_id, user_id, idempotency_key),
    KEY orders_hand_over (payment, engine_due_at, workflow_started_at, sale_id),
    KEY orders_overdue (status, deadline),
    KEY orders_of_user (user_id, reserved_at)
  )`,

  `CREATE TABLE IF NOT EXISTS order_items (
    order_no VARCHAR(80) NOT NULL,
    sku VARCHAR(64) NOT NULL,
    position INT UNSIGNED NOT NULL,
    quantity INT UNSIGNED NOT NULL,
    unit_price BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (order_no, sku)
  )`,

  `CREATE TABLE IF NOT EXISTS order_events (
    order_no VARCHAR(80) NOT NULL,
    version INT UNSIGNED NOT NULL,
    status VARCHAR(20) NOT NULL,
    payment VARCHAR(10) NOT NULL,
    reason VARCHAR(32) NULL,
    occurred_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    PRIMARY KEY (order_no, version)
  )`,

  // movement: hold, sell, release. The unique key keeps a movement from being booked twice.
  `CREATE TABLE IF NOT EXISTS stock_ledger (
    entry_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    sale_id VARCHAR(32) NOT NULL,
    sku VARCHAR(64) NOT NULL,
    order_no VARCHAR(80) NOT NULL,
    movement VARCHAR(10) NOT NULL,
    quantity INT UNSIGNED NOT NULL,
    booked_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    UNIQUE KEY ledger_once (order_no, sku, movement),
    KEY ledger_of_sku (sale_id, sku)
  )`,

  `CREATE TABLE IF NOT EXISTS payment_sessions (
    session_id CHAR(26) NOT NULL PRIMARY KEY,
    order_no VARCHAR(80) NOT NULL,
    provider VARCHAR(20) NOT NULL,
    provider_session_id VARCHAR(128) NULL,
    url VARCHAR(2000) NULL,
    amount BIGINT UNSIGNED NOT NULL,
    currency CHAR(3) NOT NULL,
    status VARCHAR(10) NOT NULL,
    expires_at DATETIME(3) NOT NULL,
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    KEY sessions_of_order (order_no)
  )`,

  // The payment inbox: every authentic notice, unchanged.
  `CREATE TABLE IF NOT EXISTS payment_events (
    entry_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    provider VARCHAR(20) NOT NULL,
    provider_event_id VARCHAR(128) NOT NULL,
    kind VARCHAR(40) NOT NULL,
    order_no VARCHAR(255) NULL,
    raw_body MEDIUMBLOB NOT NULL,
    received_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    UNIQUE KEY payment_events_once (provider, provider_event_id),
    KEY payment_events_of_order (order_no)
  )`,

  `CREATE TABLE IF NOT EXISTS payments (
    payment_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    provider VARCHAR(20) NOT NULL,
    provider_payment_id VARCHAR(128) NOT NULL,
    order_no VARCHAR(255) NOT NULL,
    amount BIGINT UNSIGNED NOT NULL,
    currency CHAR(3) NOT NULL,
    status VARCHAR(12) NOT NULL,
    received_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    updated_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
    UNIQUE KEY payments_once (provider, provider_payment_id),
    KEY payments_of_order (order_no, status),
    KEY payments_by_status (status)
  )`,

  // Work that needs an operator: an order or a payment that the rules could not settle.
  `CREATE TABLE IF NOT EXISTS parked (
    parked_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    kind VARCHAR(20) NOT NULL,
    reference VARCHAR(128) NOT NULL,
    reason VARCHAR(500) NOT NULL,
    parked_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    resolved_at DATETIME(3) NULL,
    UNIQUE KEY parked_once (kind, reference)
  )`,

  `CREATE TABLE IF NOT EXISTS audit_log (
    entry_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    actor VARCHAR(128) NOT NULL,
    action VARCHAR(64) NOT NULL,
    subject VARCHAR(128) NOT NULL,
    detail TEXT NOT NULL,
    occurred_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
  )`,
].map((table) => `${table} ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`);
