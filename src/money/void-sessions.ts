/** Closes payment sessions at the provider, before an order ends or gets a page that is open for longer. */

import { LEAST_SESSION_MS } from '../limits.ts';
import { follow } from '../orders/follow.ts';
import { SessionRefusedError, type PaymentProvider } from '../providers/provider.ts';
import type { Stores } from '../stores/open.ts';
import type { ProviderPayment } from './payment.ts';
import type { PaymentSession } from './sessions.sql.ts';

interface VoidDeps extends Stores {
  provider: PaymentProvider;
}

/** A payment that began before its session expired is collected, and listed, within this time. */
const COLLECTED_WITHIN_MS = 2 * 60_000;

/**
 * Closes an order's sessions at the provider, and records the payment of one that was paid meanwhile.
 * @throws when the provider is away or busy: it may be repeated
 */
export async function voidSessions(deps: VoidDeps, orderNo: string): Promise<void> {
  for (const session of await deps.paymentSessions.listOpen(orderNo)) await voidSession(deps, session);
}

/** As `voidSessions`, for this session alone. */
export async function voidSession(deps: VoidDeps, session: PaymentSession): Promise<void> {
  const end = await closeAtProvider(deps, session);
  await deps.paymentSessions.recordClosed(session.sessionId, end);
}

async function closeAtProvider(
  deps: VoidDeps,
  session: PaymentSession,
): Promise<'voided' | 'paid' | 'refused'> {
  const { provider } = deps;
  if (await isOver(deps, session)) return 'voided';
  const providerSessionId = session.providerSessionId ?? (await openAgain(deps, session));
  if (providerSessionId === undefined) return 'refused';
  const outcome = await provider.voidSession(providerSessionId);
  if (outcome.kind === 'voided') return 'voided';
  await recordPayment(deps, outcome.payment);
  return 'paid';
}

/** Records a payment that no notice told of, and brings what it changes to Redis. */
export async function recordPayment(
  { provider, ...stores }: Stores & { provider: Pick<PaymentProvider, 'name'> },
  payment: ProviderPayment,
): Promise<void> {
  const stored = await stores.payments.record(provider.name, payment);
  // The workflow of the order is signalled by a relay.
  if (stored?.isEnd === true) await follow(stores, [{ orderNo: stored.order.orderNo, state: stored.state }]);
}

/**
 * Nothing is left to close or to learn: it has expired, and all that was collected until then is known. Not
 * one that lived longer than payments are looked back for: one that began early in it may be unseen.
 */
async function isOver(
  { comparedBook, sales, provider }: VoidDeps,
  { providerExpiresAtMs, createdAtMs }: PaymentSession,
): Promise<boolean> {
  if (providerExpiresAtMs === null || providerExpiresAtMs > Date.now()) return false;
  const knownUntilMs = await comparedBook.knownUntilMs(provider.name);
  if (knownUntilMs <= providerExpiresAtMs + COLLECTED_WITHIN_MS) return false;
  const lifeMs = providerExpiresAtMs - createdAtMs;
  return lifeMs <= LEAST_SESSION_MS || lifeMs <= (await sales.longestPaymentWindowMs());
}

/**
 * A process died after asking for the session and before recording its id. A repeat returns the same one.
 * @returns undefined when the provider refuses the session, and so has none
 */
async function openAgain({ provider }: VoidDeps, session: PaymentSession): Promise<string | undefined> {
  try {
    return (await provider.openSession(session)).providerSessionId;
  } catch (error) {
    if (error instanceof SessionRefusedError) return undefined;
    throw error;
  }
}
