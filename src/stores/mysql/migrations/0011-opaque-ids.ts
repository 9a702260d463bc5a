/**
 * Widens what holds the ids that a shop chooses: a user's id of 255 bytes, and a SKU of 100. Both servers
 * widen such columns in place, and a repeat changes nothing.
 */

export const opaqueIds = [
  `ALTER TABLE skus MODIFY COLUMN sku VARCHAR(100) NOT NULL`,
  `ALTER TABLE orders MODIFY COLUMN user_id VARCHAR(255) NOT NULL`,
  `ALTER TABLE order_items MODIFY COLUMN sku VARCHAR(100) NOT NULL`,
  `ALTER TABLE stock_ledger MODIFY COLUMN sku VARCHAR(100) NOT NULL`,
  `ALTER TABLE erasures MODIFY COLUMN user_id VARCHAR(255) NOT NULL`,
  // An operator is the subject of a token, and a subject may be a sale with a SKU of it.
  `ALTER TABLE audit_log MODIFY COLUMN actor VARCHAR(255) NOT NULL`,
  `ALTER TABLE audit_log MODIFY COLUMN subject VARCHAR(255) NOT NULL`,
];
