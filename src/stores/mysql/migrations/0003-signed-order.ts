/** Renames the columns of the signed order: it is a JWS, which is signed and not sealed. */

export const signedOrder = [
  `ALTER TABLE payment_sessions RENAME COLUMN sealed_order TO signed_order`,
  `ALTER TABLE payments RENAME COLUMN sealed_order TO signed_order`,
];
