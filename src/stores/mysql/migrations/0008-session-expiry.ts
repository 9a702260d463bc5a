/** When a payment session expires at the provider by itself, which may be later than its order's deadline. */

export const sessionExpiry = [`ALTER TABLE payment_sessions ADD COLUMN provider_expires_at DATETIME(3) NULL`];
