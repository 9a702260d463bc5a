/** What the provider charges for payments, refunds and disputes, where it tells. */

export const fees = [
  // Minor units of the row's own currency; null: not told.
  `ALTER TABLE payments ADD COLUMN fee BIGINT NULL`,
  `ALTER TABLE reversals ADD COLUMN fee BIGINT NULL`,
];
