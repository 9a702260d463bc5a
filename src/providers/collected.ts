/** Reads all payments that a provider collected, with what went back of each, from its own list. */

import { type CollectedPayment, sumReversals } from '../money/payment.ts';
import type { PaymentProvider } from './provider.ts';

/**
 * Reads the whole list. Where it does not say what went back of a payment, the payment's reversals are read
 * too.
 * @throws when the provider is away, because an unknown sum must be an error and never a wrong number
 */
export async function* readCollected(
  provider: Pick<PaymentProvider, 'listPayments' | 'listReversals'>,
): AsyncGenerator<CollectedPayment> {
  for await (const { totals, counted: _, ...payment } of provider.listPayments()) {
    const { succeeded, isMixed } = totals
      ? { ...totals, isMixed: false }
      : sumReversals(payment.currency, await provider.listReversals(payment.providerPaymentId));
    yield { ...payment, returned: succeeded, isMixed };
  }
}
