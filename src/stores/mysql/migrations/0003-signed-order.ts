/** What a payment session carries of its order is signed (a JWS), so that is what its columns are called. */

export const signedOrder = [
  `ALTER TABLE payment_sessions RENAME COLUMN sealed_order TO signed_order`,
  `ALTER TABLE payments RENAME COLUMN sealed_order TO signed_order`,
];
