/** Renames the columns of the signed order that a payment session carries, because a JWS is signed, not sealed. */

export const signedOrder = [
  `ALTER TABLE payment_sessions RENAME COLUMN sealed_order TO signed_order`,
  `ALTER TABLE payments RENAME COLUMN sealed_order TO signed_order`,
];
