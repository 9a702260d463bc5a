/**
 * undecided_from: orders of an earlier epoch than this were told as lost before the rebuild that goes on, or
 * the last one, began. The key finds the sales that Redis is to have, page by page.
 */

export const lostOrders = [
  `ALTER TABLE sales ADD COLUMN undecided_from INT UNSIGNED NOT NULL DEFAULT 0`,
  `ALTER TABLE sales ADD KEY sales_in_redis (redis_cleaned_at, sale_id, warmed_up_at)`,
];
