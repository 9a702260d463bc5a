/** What a worker looks after: sales to be put into Redis, those that are on, and those to be settled. */

export const saleLists = [
  `ALTER TABLE sales ADD KEY sales_to_warm_up (warmed_up_at, settled_at, draft, opens_at, sale_id)`,
  `ALTER TABLE sales ADD KEY sales_looked_after (settled_at, draft, closed_at, opens_at, sale_id)`,
  `ALTER TABLE sales ADD KEY sales_to_settle (settled_at, draft, closed_at, sale_id)`,
  `ALTER TABLE sales DROP KEY sales_unsettled`,
];
