/** Tells changes of a sale apart by more than their numbers, which come again where MySQL loses commits. */

export const changeIds = [
  // Random; of the last change that was recorded. Empty: of a change from before this column.
  `ALTER TABLE sales ADD COLUMN change_id VARCHAR(26) NOT NULL DEFAULT ''`,
  `ALTER TABLE sale_changes ADD COLUMN change_id VARCHAR(26) NOT NULL DEFAULT ''`,
];
