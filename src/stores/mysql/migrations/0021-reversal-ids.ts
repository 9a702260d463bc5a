/**
 * Tells reversals apart by their payment and kind too: a provider may number the refunds of each payment by
 * themselves, and its disputes again.
 */

export const reversalIds = [
  `ALTER TABLE reversals
    ADD UNIQUE KEY reversals_once_each (provider, provider_payment_id, kind, provider_reversal_id)`,
  `ALTER TABLE reversals DROP KEY reversals_once`,
];
