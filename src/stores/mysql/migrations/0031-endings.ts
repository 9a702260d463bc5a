/** Lets orders that no workflow has begun be ended from MySQL, and finds them by their deadline. */

export const endings = [
  // When a workflow of the order was last tried to be started with the state of that time. Its answer may
  // have been lost, so a workflow may run that MySQL does not know of; null: none was.
  `ALTER TABLE orders ADD COLUMN start_tried_at DATETIME(3) NULL`,
  // When the order began to be ended without a workflow; null: it is not.
  `ALTER TABLE orders ADD COLUMN end_begun_at DATETIME(3) NULL`,
  // Until when that is claimed: the sessions of an open order are to be voided, or Redis is to have the end
  // of a cancelled one. Null: nothing is left.
  `ALTER TABLE orders ADD COLUMN end_due_at DATETIME(3) NULL`,
  // By equality up to the last column or the last but one, so that no other orders are read or locked.
  `ALTER TABLE orders ADD KEY orders_to_end (workflow_started_at, status, payment, end_due_at, deadline)`,
];
