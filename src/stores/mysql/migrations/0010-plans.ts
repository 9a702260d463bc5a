/** An index for statements that would otherwise read, and lock, every payment that a shop ever got. */

export const plans = [
  // Parked work names a payment by its provider's id alone.
  `ALTER TABLE payments ADD KEY payments_of_provider_id (provider_payment_id)`,
];
