/**
 * undecided_from: orders of an earlier epoch than this were told as lost before the rebuild that goes on, or
 * the last one, began.
 */

export const lostOrders = [`ALTER TABLE sales ADD COLUMN undecided_from INT UNSIGNED NOT NULL DEFAULT 0`];
