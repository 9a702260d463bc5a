/** What a provider has collected and not given back, from its own book. */

import type { CollectedPayment } from '../domain/payment.ts';
import { sumReversals } from '../domain/reversals.ts';
import type { PaymentProvider } from './provider.ts';

/**
 * The whole book; where its list does not say what went back, the payment's reversals are asked for.
 * @throws when the provider is away: a sum that is not known is an error, never a wrong number
 */
export async function* readCollected(
  provider: Pick<PaymentProvider, 'listPayments' | 'listReversals'>,
): AsyncGenerator<CollectedPayment> {
  for await (const { totals, ...payment } of provider.listPayments()) {
    const { succeeded } =
      totals ?? sumReversals(payment.currency, await provider.listReversals(payment.providerPaymentId));
    yield { ...payment, returned: succeeded };
  }
}
