/**
 * The payment methods that Checkout may offer. Each settles at once: Stripe says whether it succeeded while
 * the shopper waits. Others, such as direct debits and bank transfers, settle days later, long after the
 * stock was sold to another shopper.
 */

export const STRIPE_PAYMENT_METHODS = [
  'card',
  'link',
  'paypal',
  'ideal',
  'bancontact',
  'eps',
  'p24',
  'blik',
  'twint',
] as const;
export type StripePaymentMethod = (typeof STRIPE_PAYMENT_METHODS)[number];

export const DEFAULT_PAYMENT_METHODS: readonly StripePaymentMethod[] = ['card'];

/**
 * ISO 4217, where a method does not take them all. Sources: docs.stripe.com/payments/paypal, and
 * docs.stripe.com/payments/<method>/accept-a-payment for the others; they say too that notification is
 * immediate.
 */
const METHOD_CURRENCIES: Partial<Record<StripePaymentMethod, readonly string[]>> = {
  paypal: ['AUD', 'CAD', 'CHF', 'CZK', 'DKK', 'EUR', 'GBP', 'HKD', 'NOK', 'NZD', 'PLN', 'SEK', 'SGD', 'USD'],
  ideal: ['EUR'],
  bancontact: ['EUR'],
  eps: ['EUR'],
  p24: ['EUR', 'PLN'],
  blik: ['PLN'],
  twint: ['CHF'],
};

/** Those of the methods by which this currency can be paid, in their order. */
export function methodsFor(methods: readonly StripePaymentMethod[], currency: string): StripePaymentMethod[] {
  return methods.filter((method) => METHOD_CURRENCIES[method]?.includes(currency) ?? true);
}

/** Why no shopper could pay in this currency; undefined where a method takes it. */
export function currencyFault(methods: readonly StripePaymentMethod[], currency: string): string | undefined {
  if (methodsFor(methods, currency).length > 0) return undefined;
  return `${currency} can be paid by none of: ${methods.join(', ')}`;
}
