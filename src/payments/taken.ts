/** What went back of the payments in a provider's book. */

import type { Reversal, TakenPayment, WentBack } from '../domain/payment.ts';
import type { PaymentProvider } from './provider.ts';

/** Of one payment. */
export function sumWentBack(reversals: readonly Reversal[]): WentBack {
  return {
    returned: reversals
      .filter(({ status }) => status === 'succeeded')
      .reduce((sum, { amount }) => sum + amount, 0),
    isDisputed: reversals.some(({ kind, status }) => kind === 'dispute' && status === 'pending'),
  };
}

/**
 * The whole book; where its list does not tell what went back, the payment's reversals are asked for.
 * @throws when the provider is away: a sum that is not known is an error, never a wrong number
 */
export async function* readTaken(
  provider: Pick<PaymentProvider, 'listPayments' | 'listReversals'>,
): AsyncGenerator<TakenPayment> {
  for await (const { wentBack, ...payment } of provider.listPayments()) {
    const { returned } = wentBack ?? sumWentBack(await provider.listReversals(payment.providerPaymentId));
    yield { ...payment, returned };
  }
}
