-- The tables of Holdfast, by noun. All times are UTC, all amounts minor units of their row's currency.
-- Nullable times say "not yet" or "not": a comment says so only where it is something else.
-- Each statement may be repeated, because a migration may die half-way.

-- A shop's event: what it decided of it, and how far it has come.
CREATE TABLE IF NOT EXISTS sales (
  sale_id VARCHAR(32) NOT NULL PRIMARY KEY,
  name VARCHAR(200) NOT NULL,
  currency CHAR(3) NOT NULL,
  opens_at DATETIME(3) NOT NULL,
  closes_at DATETIME(3) NOT NULL,
  payment_window_ms INT UNSIGNED NOT NULL,
  draft BOOLEAN NOT NULL DEFAULT FALSE,
  paused BOOLEAN NOT NULL DEFAULT FALSE,
  limit_per_user INT UNSIGNED NULL,
  max_unpaid_holds INT UNSIGNED NULL,
  address_purchases_per_minute INT UNSIGNED NULL,
  ticket_required BOOLEAN NOT NULL DEFAULT FALSE,
  -- JSON: what shoppers do before they may order.
  verification VARCHAR(200) NULL,
  refund_restores_limit BOOLEAN NOT NULL DEFAULT TRUE,
  expiring_notice_ms INT UNSIGNED NULL,
  -- The shop's own; metadata is JSON.
  reference VARCHAR(128) NULL,
  metadata VARCHAR(1024) NULL,
  -- `sale`: all of it is called off for good; `skus`: some SKUs are. `calling_offs` says which, and when.
  called_off VARCHAR(4) NULL,

  -- version: of what the shop decided, grows with each change of it. change_no and change_id: of the last recorded
  -- change, also of those that were refused; the id is random, because numbers come again where MySQL loses commits.
  -- Redis has those of the last change that it decided. pending_change_no: of the one that is recorded and not decided.
  version INT UNSIGNED NOT NULL DEFAULT 1,
  change_no INT UNSIGNED NOT NULL DEFAULT 1,
  change_id VARCHAR(26) NOT NULL DEFAULT '',
  pending_change_no INT UNSIGNED NULL,

  -- Which history of the sale's Redis data is in use. rebuilding_since: a rebuild has begun and is not finished.
  -- rebuilt_at: when the last one was finished. undecided_from: orders of an earlier epoch than this were answered as lost
  -- before the rebuild that goes on, or the last one, began. redis_cleaned_at: when the data were removed for good,
  -- long after the sale's end.
  epoch INT UNSIGNED NOT NULL DEFAULT 1,
  warmed_up_at DATETIME(3) NULL,
  rebuilding_since DATETIME(3) NULL,
  rebuilt_at DATETIME(3) NULL,
  undecided_from INT UNSIGNED NOT NULL DEFAULT 0,
  redis_cleaned_at DATETIME(3) NULL,

  -- When each was recorded and announced. sold_out_at is null again when units came back; sold_out_count numbers the
  -- times.
  opened_at DATETIME(3) NULL,
  sold_out_at DATETIME(3) NULL,
  sold_out_count INT UNSIGNED NOT NULL DEFAULT 0,
  closed_at DATETIME(3) NULL,
  settled_at DATETIME(3) NULL,
  archived_at DATETIME(3) NULL,
  created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),

  KEY sales_pending (pending_change_no),
  -- The sales that Redis is to have, page by page.
  KEY sales_in_redis (redis_cleaned_at, sale_id, warmed_up_at),
  -- What a worker looks after: sales to be put into Redis, those that are on, and those to be settled.
  KEY sales_to_warm_up (warmed_up_at, settled_at, draft, opens_at, sale_id),
  KEY sales_looked_after (settled_at, draft, closed_at, opens_at, sale_id),
  KEY sales_to_settle (settled_at, draft, closed_at, sale_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- No foreign key refers to this table: its shared lock on the row would deadlock with the counters' update. A change
-- concerns the whole sale, so its SKUs have no versions of their own.
CREATE TABLE IF NOT EXISTS skus (
  sale_id VARCHAR(32) NOT NULL,
  sku VARCHAR(100) NOT NULL,
  position INT UNSIGNED NOT NULL,
  name VARCHAR(200) NOT NULL,
  unit_price BIGINT UNSIGNED NOT NULL,
  limit_per_user INT UNSIGNED NULL,
  reference VARCHAR(128) NULL,
  metadata VARCHAR(1024) NULL,
  -- It is refused for good, by the sale's rules; orders that are stored go by `sales.called_off`.
  called_off BOOLEAN NOT NULL DEFAULT FALSE,
  total INT UNSIGNED NOT NULL,
  held INT UNSIGNED NOT NULL DEFAULT 0,
  sold INT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (sale_id, sku),
  CONSTRAINT skus_never_oversold CHECK (held + sold <= total)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- status: pending until Redis has decided the change, then applied or refused. document and former: JSON of what the
-- sale becomes and was, while the change is pending. sku, committed: why it was refused.
CREATE TABLE IF NOT EXISTS sale_changes (
  sale_id VARCHAR(32) NOT NULL,
  change_no INT UNSIGNED NOT NULL,
  change_id VARCHAR(26) NOT NULL DEFAULT '',
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
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Sales and SKUs that were called off for good, each with the job that cancels its orders and sends their money back.
-- sku: empty: the sale as a whole. passes: of the job over all orders. ended_at: the last pass found nothing left.
-- news: since the last pass began an order was stored that is paid and was not seen by it, so the job does not end.
-- asked, cancelled, late: counted in the transactions that request a refund, cancel an order, or refuse a payment that
-- came too late, so that a report reads no orders.
CREATE TABLE IF NOT EXISTS calling_offs (
  job_id CHAR(26) NOT NULL PRIMARY KEY,
  sale_id VARCHAR(32) NOT NULL,
  sku VARCHAR(100) NOT NULL,
  restock BOOLEAN NOT NULL,
  actor VARCHAR(255) NOT NULL,
  reason VARCHAR(500) NULL,
  passes INT UNSIGNED NOT NULL DEFAULT 0,
  news BOOLEAN NOT NULL DEFAULT FALSE,
  asked_orders INT UNSIGNED NOT NULL DEFAULT 0,
  asked_amount BIGINT UNSIGNED NOT NULL DEFAULT 0,
  cancelled_orders INT UNSIGNED NOT NULL DEFAULT 0,
  cancelled_amount BIGINT UNSIGNED NOT NULL DEFAULT 0,
  late_orders INT UNSIGNED NOT NULL DEFAULT 0,
  late_amount BIGINT UNSIGNED NOT NULL DEFAULT 0,
  called_off_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  ended_at DATETIME(3) NULL,
  UNIQUE KEY calling_offs_once (sale_id, sku),
  KEY calling_offs_open (ended_at, job_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Paid orders of which a job could not ask all of the money back, and why.
CREATE TABLE IF NOT EXISTS calling_off_exceptions (
  job_id CHAR(26) NOT NULL,
  order_no VARCHAR(80) NOT NULL,
  cause VARCHAR(20) NOT NULL,
  PRIMARY KEY (job_id, order_no)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS orders (
  order_no VARCHAR(80) NOT NULL PRIMARY KEY,
  sale_id VARCHAR(32) NOT NULL,
  user_id VARCHAR(255) NOT NULL,
  idempotency_key VARCHAR(128) NULL,
  status VARCHAR(20) NOT NULL,
  payment VARCHAR(20) NOT NULL,
  closing_reason VARCHAR(32) NULL,
  version INT UNSIGNED NOT NULL,
  epoch INT UNSIGNED NOT NULL,
  batch_id CHAR(26) NOT NULL,

  total BIGINT UNSIGNED NOT NULL,
  currency CHAR(3) NOT NULL,
  -- What went back of the order's own payment.
  refunded BIGINT UNSIGNED NOT NULL DEFAULT 0,
  reference VARCHAR(128) NULL,
  -- carried: what no statement decides by (src/orders/content.ts). It and charges are JSON as text, because MySQL and
  -- MariaDB give a column of the type JSON back in different forms.
  charges TEXT NULL,
  carried TEXT NOT NULL,
  -- Whether the order still has its shopper's contact, and its sessions and payments the signed order.
  contact_kept BOOLEAN NOT NULL DEFAULT TRUE,

  reserved_at DATETIME(3) NOT NULL,
  payment_window_ms INT UNSIGNED NOT NULL,
  -- extended_until: to when staff have extended the deadline, which has the same time.
  deadline DATETIME(3) NOT NULL,
  extended_until DATETIME(3) NULL,
  -- When the shop is to be told that the deadline is near; null: not, or it was.
  expiring_due_at DATETIME(3) NULL,

  -- workflow_started_at: null while the order is only stored ahead. start_tried_at: when a workflow of the order was
  -- last tried to be started with the state of that time; the answer may have been lost, so a workflow may run that
  -- MySQL does not know of. engine_due_at: when the relay is to start the order's workflow, or signal it about an end
  -- or a cancel request; null: neither. While that is claimed it is the claim's end, and engine_since is since when it
  -- was due. engine_failures: of starts and signals in a row, up to as many as put the order behind the others.
  workflow_started_at DATETIME(3) NULL,
  start_tried_at DATETIME(3) NULL,
  engine_due_at DATETIME(3) NULL,
  engine_since DATETIME(3) NULL,
  engine_failures TINYINT UNSIGNED NOT NULL DEFAULT 0,
  -- end_begun_at: since when the sessions of an open order are to be voided, so that it ends without a workflow.
  -- end_due_at: when a process is to go on with an end: to void the sessions of an open order, or to bring the end of
  -- an ended one to Redis; while that is claimed, the claim's end; null: nothing remains to be done.
  end_begun_at DATETIME(3) NULL,
  end_due_at DATETIME(3) NULL,
  created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),

  UNIQUE KEY orders_request (sale_id, user_id, idempotency_key),
  KEY orders_overdue (status, deadline),
  KEY orders_expiring (expiring_due_at),
  KEY orders_of_user (user_id, reserved_at),
  -- Finds due orders that have ended or are to be cancelled without reading all that wait to be started.
  KEY orders_due (status, closing_reason, engine_due_at, workflow_started_at, sale_id),
  KEY orders_contact (contact_kept, reserved_at),
  KEY orders_of_reference (reference),
  KEY orders_of_sale_status (sale_id, status),
  -- By equality up to the last column or the last but one, so that no other orders are read or locked.
  KEY orders_to_end (status, end_due_at, workflow_started_at, sale_id, deadline)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- stock_returned, limit_returned: units of the line that are on sale again, and those that no longer count against the
-- user's limit: the sums of what `refunds` have given back.
CREATE TABLE IF NOT EXISTS order_items (
  order_no VARCHAR(80) NOT NULL,
  sku VARCHAR(100) NOT NULL,
  position INT UNSIGNED NOT NULL,
  quantity INT UNSIGNED NOT NULL,
  unit_price BIGINT UNSIGNED NOT NULL,
  stock_returned INT UNSIGNED NOT NULL DEFAULT 0,
  limit_returned INT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (order_no, sku)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Every version of an order. refunded: what of its own payment had gone back by then; extended_until: to when its
-- deadline was extended by then.
CREATE TABLE IF NOT EXISTS order_events (
  order_no VARCHAR(80) NOT NULL,
  version INT UNSIGNED NOT NULL,
  status VARCHAR(20) NOT NULL,
  payment VARCHAR(20) NOT NULL,
  reason VARCHAR(32) NULL,
  refunded BIGINT UNSIGNED NOT NULL DEFAULT 0,
  extended_until DATETIME(3) NULL,
  occurred_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  -- The event's number in the feed, given after the commit.
  sequence BIGINT UNSIGNED NULL,
  PRIMARY KEY (order_no, version),
  -- Not unique: checking that would lock a gap into which every new row goes.
  KEY order_events_sequence (sequence)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What became of a sale's orders, added up with the numbers of their events. step: seconds of a point; 0: the whole sale.
-- begins: of the point, Unix seconds. figure: `accepted`, `paid`, `ended:` and a reason; of a whole sale also `taken`,
-- `refunded`, `sku:` and `charge:` (the parts of `taken`), and `paid_within:` (orders by how long their payment took).
CREATE TABLE IF NOT EXISTS sale_figures (
  sale_id VARCHAR(32) NOT NULL,
  step SMALLINT UNSIGNED NOT NULL,
  begins INT UNSIGNED NOT NULL,
  figure VARCHAR(110) NOT NULL,
  total BIGINT NOT NULL,
  PRIMARY KEY (sale_id, step, begins, figure)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- movement: hold, sell, release, return. part: of a return, the refund that it belongs to; empty: another movement. The
-- unique key keeps a movement from being booked twice.
CREATE TABLE IF NOT EXISTS stock_ledger (
  entry_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  sale_id VARCHAR(32) NOT NULL,
  sku VARCHAR(100) NOT NULL,
  order_no VARCHAR(80) NOT NULL,
  movement VARCHAR(10) NOT NULL,
  part VARCHAR(20) NOT NULL DEFAULT '',
  quantity INT UNSIGNED NOT NULL,
  booked_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  UNIQUE KEY ledger_once_a_part (order_no, sku, movement, part),
  KEY ledger_of_sku (sale_id, sku),
  -- The sums by which drift is found each minute, from the index alone.
  KEY ledger_sums (sale_id, movement, sku, quantity)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- provider_expires_at: when the session expires at the provider by itself, which may be later than the order's
-- deadline.
CREATE TABLE IF NOT EXISTS payment_sessions (
  session_id CHAR(26) NOT NULL PRIMARY KEY,
  order_no VARCHAR(80) NOT NULL,
  provider VARCHAR(20) NOT NULL,
  provider_session_id VARCHAR(128) NULL,
  url VARCHAR(2000) NULL,
  amount BIGINT UNSIGNED NOT NULL,
  currency CHAR(3) NOT NULL,
  signed_order TEXT NULL,
  status VARCHAR(10) NOT NULL,
  expires_at DATETIME(3) NOT NULL,
  provider_expires_at DATETIME(3) NULL,
  created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  KEY sessions_of_order (order_no)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The payment inbox: every authentic notice, unchanged.
CREATE TABLE IF NOT EXISTS payment_events (
  entry_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  provider VARCHAR(20) NOT NULL,
  provider_event_id VARCHAR(128) NOT NULL,
  kind VARCHAR(40) NOT NULL,
  order_no VARCHAR(255) NULL,
  raw_body MEDIUMBLOB NOT NULL,
  received_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  UNIQUE KEY payment_events_once (provider, provider_event_id),
  KEY payment_events_of_order (order_no)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS payments (
  payment_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  provider VARCHAR(20) NOT NULL,
  provider_payment_id VARCHAR(128) NOT NULL,
  order_no VARCHAR(255) NOT NULL,
  amount BIGINT UNSIGNED NOT NULL,
  currency CHAR(3) NOT NULL,
  -- What the provider charges for it; null: not reported.
  fee BIGINT NULL,
  signed_order TEXT NULL,
  status VARCHAR(12) NOT NULL,
  -- When the payment paid for its order. It stays when the payment is refunded, and so marks the order's own payment
  -- among all others.
  applied_at DATETIME(3) NULL,
  -- refund_target: what is to go back in all, by all requests. engine_due_at: when the relay is to start or signal
  -- the payment's refund workflow; null: neither. engine_since, engine_failures: as of an order. refund_refusal: JSON,
  -- what the provider said when it last refused; null: it did not, or has accepted since.
  refund_reason VARCHAR(32) NULL,
  refund_target BIGINT UNSIGNED NOT NULL DEFAULT 0,
  refund_refusals INT UNSIGNED NOT NULL DEFAULT 0,
  refund_refusal TEXT NULL,
  engine_due_at DATETIME(3) NULL,
  engine_since DATETIME(3) NULL,
  engine_failures TINYINT UNSIGNED NOT NULL DEFAULT 0,
  received_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  updated_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
  UNIQUE KEY payments_once (provider, provider_payment_id),
  KEY payments_of_order (order_no, status),
  KEY payments_by_status (status),
  KEY payments_due (engine_due_at),
  -- Parked work names a payment by its provider's id alone.
  KEY payments_of_provider_id (provider_payment_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- All known refunds and disputes, also those whose payment is not known yet. A provider may number the refunds of each
-- payment by themselves, and its disputes again.
CREATE TABLE IF NOT EXISTS reversals (
  reversal_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  provider VARCHAR(20) NOT NULL,
  provider_reversal_id VARCHAR(128) NOT NULL,
  kind VARCHAR(10) NOT NULL,
  provider_payment_id VARCHAR(128) NOT NULL,
  amount BIGINT UNSIGNED NOT NULL,
  currency CHAR(3) NOT NULL,
  -- What the provider charges for it; null: not reported.
  fee BIGINT NULL,
  status VARCHAR(10) NOT NULL,
  -- Of a dispute: the time of the latest statement of the provider about it, by the provider's clock.
  as_of DATETIME(3) NULL,
  -- Of a pending refund: the provider's word for its state, where that is not known, and since when it is so.
  unknown_state VARCHAR(64) NULL,
  unknown_since DATETIME(3) NULL,
  created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  updated_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
  UNIQUE KEY reversals_once_each (provider, provider_payment_id, kind, provider_reversal_id),
  KEY reversals_of_payment (provider, provider_payment_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What goes back of a paid order. kind: request (staff send money back, with or without units), return (an operator puts
-- the units of a refunded order on sale again), rule (the sale's rule gives the limit back, as all of the money went
-- back). target: what has gone back of the payment once this refund
-- has ended. refusal: as refund_refusal of the payment. items: JSON, the units that it is about; null: none. given_back: what it gives back is booked;
-- stock_given, limit_given: what that was. refusals_before: refund_refusals of the payment when it was requested.
-- status: requested, succeeded, failed (withdrawn). accepted: the provider has taken it, so its money is back or pending.
CREATE TABLE IF NOT EXISTS refunds (
  refund_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  order_no VARCHAR(80) NOT NULL,
  payment_id BIGINT UNSIGNED NOT NULL,
  kind VARCHAR(10) NOT NULL DEFAULT 'request',
  amount BIGINT UNSIGNED NOT NULL,
  target BIGINT UNSIGNED NOT NULL,
  items TEXT NULL,
  charges BOOLEAN NOT NULL DEFAULT FALSE,
  restock BOOLEAN NOT NULL,
  restores_limit BOOLEAN NOT NULL,
  given_back BOOLEAN NOT NULL DEFAULT FALSE,
  stock_given BOOLEAN NOT NULL DEFAULT FALSE,
  limit_given BOOLEAN NOT NULL DEFAULT FALSE,
  accepted BOOLEAN NOT NULL DEFAULT FALSE,
  refusals_before INT UNSIGNED NOT NULL DEFAULT 0,
  refusal TEXT NULL,
  reason VARCHAR(500) NULL,
  actor VARCHAR(255) NOT NULL,
  idempotency_key VARCHAR(128) NULL,
  fingerprint CHAR(43) NULL,
  status VARCHAR(10) NOT NULL,
  created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  ended_at DATETIME(3) NULL,
  UNIQUE KEY refunds_request (order_no, idempotency_key),
  -- Those of one job, which have the same key, counted from the index alone.
  KEY refunds_of_key (idempotency_key, status, accepted, given_back, amount),
  KEY refunds_of_payment (payment_id, target),
  KEY refunds_of_status (kind, status, refund_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The events that are not changes of an order. subject: the id of what it is about. data: JSON, as consumers get it.
CREATE TABLE IF NOT EXISTS shop_events (
  event_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  type VARCHAR(40) NOT NULL,
  sale_id VARCHAR(32) NULL,
  subject VARCHAR(255) NOT NULL,
  data MEDIUMTEXT NOT NULL,
  occurred_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  sequence BIGINT UNSIGNED NULL,
  KEY shop_events_sequence (sequence),
  KEY shop_events_of_subject (type, subject, event_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row. Its lock makes one dispatcher of all. begun_at: what was parked before has no event. longest_wait_ms: how
-- far the feed may be out of the order of time, for as long as events waited for their numbers. feed_id: names this
-- history of events, so that what is kept of it elsewhere is found again; the same in a copy of these data.
CREATE TABLE IF NOT EXISTS event_dispatch (
  dispatch_id TINYINT UNSIGNED NOT NULL PRIMARY KEY,
  last_sequence BIGINT UNSIGNED NOT NULL,
  longest_wait_ms BIGINT UNSIGNED NOT NULL DEFAULT 0,
  feed_id CHAR(36) NOT NULL DEFAULT '',
  begun_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT IGNORE INTO event_dispatch (dispatch_id, last_sequence, feed_id) VALUES (1, 0, UUID());

-- position: the sequence of the last event that the consumer has done with.
CREATE TABLE IF NOT EXISTS event_consumers (
  name VARCHAR(64) NOT NULL PRIMARY KEY,
  position BIGINT UNSIGNED NOT NULL,
  created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  updated_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- types: a JSON list, null: all. disabled_for: `operator` or `gone` (it answered 410). fed_sequence: the last event
-- that was looked at for this endpoint. replay_*: the events that are to be delivered again, by sequence and by time.
-- failed_probes: since the endpoint counts as down. removed_at: its rows are being deleted, and its name is free.
CREATE TABLE IF NOT EXISTS push_endpoints (
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
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- sequence: null for a test, which is no event. line: deliveries of one line go one after the other, by their ids; the
-- order's number, or the sale. turn: the line's sale, or the line where it has none; due deliveries are claimed in turns
-- by it. status: waiting, delivered or parked. due_at: null where it has ended, or waits for the one before it in its
-- line. claimed_until: a worker delivers it. scheduled_at: when the schedule has the next try, where it was made due
-- sooner because the endpoint answers again; as late as due_at: none comes sooner; null: due_at is by the schedule.
CREATE TABLE IF NOT EXISTS push_deliveries (
  delivery_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  endpoint_id BIGINT UNSIGNED NOT NULL,
  event_id VARCHAR(128) NOT NULL,
  sequence BIGINT UNSIGNED NULL,
  line VARCHAR(128) NOT NULL,
  turn VARCHAR(128) NOT NULL,
  status VARCHAR(10) NOT NULL,
  attempts INT UNSIGNED NOT NULL DEFAULT 0,
  due_at DATETIME(3) NULL,
  scheduled_at DATETIME(3) NULL,
  claimed_until DATETIME(3) NULL,
  last_error VARCHAR(255) NULL,
  -- The latest tries, a line of JSON each.
  tries MEDIUMTEXT NULL,
  created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  ended_at DATETIME(3) NULL,
  UNIQUE KEY push_deliveries_once (endpoint_id, event_id),
  KEY push_deliveries_turn (endpoint_id, status, turn, due_at, delivery_id),
  KEY push_deliveries_line (endpoint_id, line, status, delivery_id),
  KEY push_deliveries_status (endpoint_id, status, delivery_id),
  KEY push_deliveries_claimed (endpoint_id, claimed_until),
  KEY push_deliveries_ended (ended_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Work that needs an operator: what the rules could not settle. reference: such as an orderNo, a provider's payment
-- id, or a sale shard with the id of an outbox entry. cause: a stable code. reason: the first one, last_error: the
-- newest. inputs: JSON, what the step was given. settled_by: who ended the parking, `rules` or `operator`.
CREATE TABLE IF NOT EXISTS parked (
  parked_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  kind VARCHAR(20) NOT NULL,
  reference VARCHAR(255) NOT NULL,
  cause VARCHAR(40) NOT NULL DEFAULT 'unspecified',
  reason VARCHAR(500) NOT NULL,
  inputs TEXT NULL,
  last_error VARCHAR(500) NULL,
  last_seen_at DATETIME(3) NULL,
  times INT UNSIGNED NOT NULL DEFAULT 1,
  parked_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  resolved_at DATETIME(3) NULL,
  settled_by VARCHAR(10) NULL,
  UNIQUE KEY parked_once (kind, reference),
  KEY parked_open (resolved_at, parked_id),
  KEY parked_open_kinds (resolved_at, kind, parked_id, parked_at),
  KEY parked_of_kind (kind, parked_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What operators and staff did. actor: the subject of a token. subject: such as an orderNo, or a sale with a SKU of it.
CREATE TABLE IF NOT EXISTS audit_log (
  entry_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  actor VARCHAR(255) NOT NULL,
  action VARCHAR(64) NOT NULL,
  subject VARCHAR(255) NOT NULL,
  detail TEXT NOT NULL,
  reason VARCHAR(500) NULL,
  occurred_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  KEY audit_log_of_subject (subject, occurred_at),
  KEY audit_log_of_actor (actor, occurred_at),
  KEY audit_log_by_time (occurred_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Persons whose data are being erased, with the token that takes the place of their user id. A row goes away with the
-- end of its erasure, and with it the last link between the two.
CREATE TABLE IF NOT EXISTS erasures (
  user_id VARCHAR(255) NOT NULL PRIMARY KEY,
  token VARCHAR(128) NOT NULL,
  begun_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Where a walk of the reconciliation goes on in its next run.
CREATE TABLE IF NOT EXISTS reconcile_cursors (
  walk VARCHAR(100) NOT NULL PRIMARY KEY,
  position VARCHAR(255) NOT NULL,
  updated_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- In which namespaces of Temporal there are workflows, so that a lack of them shows. schedule_made_at: since then the
-- namespace has the schedule of the reconciliation. lost_at: it was missing, and not all that Temporal has lost with
-- it is due again yet.
CREATE TABLE IF NOT EXISTS temporal_namespaces (
  namespace VARCHAR(255) NOT NULL PRIMARY KEY,
  schedule_made_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  lost_at DATETIME(3) NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- beat: JSON of what a worker tells of itself, seen_at: when it last did. One that stops deletes its row.
CREATE TABLE IF NOT EXISTS worker_beats (
  worker_id VARCHAR(32) NOT NULL PRIMARY KEY,
  beat TEXT NOT NULL,
  seen_at DATETIME(3) NOT NULL,
  KEY worker_beats_seen (seen_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row: until when no API believes the projections in Redis, because one has answered what it could not project.
CREATE TABLE IF NOT EXISTS projection_doubts (
  doubt_id TINYINT UNSIGNED NOT NULL PRIMARY KEY,
  doubted_until DATETIME(3) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row: which deployment the stores belong to, by a random id that Redis, Temporal and the provider know it by.
-- name: what its processes are called. format: `STORES_FORMAT` of the code that may work with it. redis_id: the Redis
-- by which it sells; redis_seen_at: when that was last seen to be there. Made last: a schema without it is not whole.
CREATE TABLE IF NOT EXISTS deployment (
  only_row TINYINT UNSIGNED NOT NULL PRIMARY KEY DEFAULT 1,
  deployment_id VARCHAR(32) NOT NULL,
  name VARCHAR(32) NULL,
  format INT UNSIGNED NOT NULL,
  redis_id VARCHAR(32) NULL,
  redis_seen_at DATETIME(3) NULL,
  CONSTRAINT deployment_once CHECK (only_row = 1)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT IGNORE INTO deployment (only_row, deployment_id, format) VALUES (1, LOWER(HEX(RANDOM_BYTES(12))), 10);
