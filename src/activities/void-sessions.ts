/** Closes the payment sessions of an order that is to be cancelled, so that it cannot be paid any more. */

import { SessionRefusedError, type PaymentProvider } from '../payments/provider.ts';
import type { PaymentSession } from '../stores/mysql/money/payment-sessions.ts';
import type { Stores } from '../stores/open.ts';

/** A payment that began before its session expired is collected, and listed, within this time. */
const COLLECTED_WITHIN_MS = 2 * 60_000;

export interface ActivityDeps extends Stores {
  provider: PaymentProvider;
}

/**
 * @returns closes an order's sessions at the provider, and records the payment of one that was paid
 *   meanwhile;
 *   it throws when the provider is away or busy, and may be repeated
 */
export function createVoidSessions({
  payments,
  paymentSessions,
  comparedBook,
  provider,
}: ActivityDeps): (orderNo: string) => Promise<void> {
  async function closeAtProvider(session: PaymentSession): Promise<'voided' | 'paid' | 'refused'> {
    if (await isOver(session)) return 'voided';
    const providerSessionId = session.providerSessionId ?? (await openAgain(session));
    if (providerSessionId === undefined) return 'refused';
    const outcome = await provider.voidSession(providerSessionId);
    if (outcome.kind === 'voided') return 'voided';
    await payments.record(provider.name, outcome.payment);
    return 'paid';
  }

  /** Nothing is left to close or to learn: it has expired, and all that was collected until then is known. */
  async function isOver({ providerExpiresAtMs }: PaymentSession): Promise<boolean> {
    if (providerExpiresAtMs === null || providerExpiresAtMs > Date.now()) return false;
    const knownUntilMs = await comparedBook.knownUntilMs(provider.name);
    return knownUntilMs > providerExpiresAtMs + COLLECTED_WITHIN_MS;
  }

  /**
   * A process died after asking for the session and before recording its id. A repeat returns the same one.
   * @returns undefined when the provider refuses the session, and so has none
   */
  async function openAgain(session: PaymentSession): Promise<string | undefined> {
    try {
      return (await provider.openSession(session)).providerSessionId;
    } catch (error) {
      if (error instanceof SessionRefusedError) return undefined;
      throw error;
    }
  }

  return async (orderNo) => {
    for (const session of await paymentSessions.listOpen(orderNo)) {
      const end = await closeAtProvider(session);
      await paymentSessions.recordClosed(session.sessionId, end);
    }
  };
}
