/**
 * What a shop adds to an order. Metadata and charges are JSON as text, because MySQL and MariaDB give a
 * column of the type JSON back in different forms.
 */

export const shopData = [
  `ALTER TABLE orders ADD COLUMN reference VARCHAR(128) NULL`,
  `ALTER TABLE orders ADD COLUMN metadata TEXT NULL`,
  `ALTER TABLE orders ADD COLUMN charges TEXT NULL`,

  // The ticket of single use that the order spent: its digest, and from when on it is refused anyway.
  `ALTER TABLE orders ADD COLUMN ticket_id VARCHAR(64) NULL`,
  `ALTER TABLE orders ADD COLUMN ticket_ends_at DATETIME(3) NULL`,

  `ALTER TABLE orders ADD KEY orders_of_reference (reference)`,
];
