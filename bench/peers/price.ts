/** What the one SKU of the comparison costs, and how long a shopper has to pay. */

export const PRICE = { unitPrice: 1_000, currency: 'EUR', paymentWindowMs: 30 * 60_000 };
