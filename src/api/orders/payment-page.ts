/** Opens the provider's page on which an order is paid, or says why it cannot be paid. */

import type { Order } from '../../domain/content.ts';
import { isFinal } from '../../domain/order.ts';
import { ProviderBusyError, SessionRefusedError, type PaymentProvider } from '../../payments/provider.ts';
import type {
  BeginSessionOutcome,
  PaymentSession,
  SignOrder,
} from '../../stores/mysql/money/payment-sessions.ts';
import type { Stores } from '../../stores/open.ts';
import type { ReservedOrder } from '../../stores/redis/reservations.ts';
import { Problem, unavailable } from '../http/problem.ts';
import { viewOrder } from './order-view.ts';
import type { Projection } from './projection.ts';

export interface PaymentPageDeps extends Stores {
  provider: PaymentProvider;
  /** Signs what a payment session carries of its order. */
  sign: SignOrder;
  projection: Pick<Projection, 'project'>;
}

export interface PaymentPage {
  url: string;
  /** Unix time in ms until which the shopper may pay. */
  expiresAtMs: number;
}

export type OpenPaymentPage = ReturnType<typeof createPaymentPage>;

export function createPaymentPage(deps: PaymentPageDeps) {
  const { paymentSessions, provider, sign, projection, paymentAttempts } = deps;

  async function begin(orderNo: string): Promise<PaymentSession> {
    const outcome = await paymentSessions.begin(provider.name, orderNo, sign);
    if (outcome.kind === 'begun') return outcome.session;
    // The refusal shows the order's state, so no later answer may be older.
    if (outcome.kind === 'not-payable') await projection.project(outcome.stored);
    throw toRefusal(outcome);
  }

  async function openAtProvider(session: PaymentSession, userId: string): Promise<PaymentPage> {
    const { expiresAtMs } = session;
    if (session.url !== null) return { url: session.url, expiresAtMs };
    const opened = await provider.openSession(session);
    await paymentSessions.recordOpened(session.sessionId, opened);
    await paymentAttempts.countOpened(userId);
    return { url: opened.url, expiresAtMs };
  }

  /**
   * What the provider refuses once it refuses for ever, for instance a session whose times were recorded
   * before an outage. So a new session is begun, once a call.
   */
  async function openOrReplace(session: PaymentSession, userId: string): Promise<PaymentPage> {
    try {
      return await openAtProvider(session, userId);
    } catch (error) {
      if (!(error instanceof SessionRefusedError)) throw error;
      await paymentSessions.recordRefused(session);
      const next = await begin(session.orderNo);
      if (next.sessionId === session.sessionId && next.url === null) throw error;
      return openAtProvider(next, userId);
    }
  }

  async function assertFewAttempts(order: Order): Promise<void> {
    const waitMs = await paymentAttempts.waitMs(order);
    if (waitMs === 0) return;
    const retryAfterSeconds = Math.ceil(waitMs / 1_000);
    throw new Problem('too_many_attempts', 'It was tried too often to pay.', { retryAfterSeconds });
  }

  /** @throws Problem */
  return async function openPaymentPage({ order, state }: ReservedOrder): Promise<PaymentPage> {
    const fault = provider.priceFault({ amount: order.total, currency: order.currency });
    if (fault !== undefined) {
      const extra = { order: viewOrder(order, state) };
      throw new Problem('not_payable', `The order cannot be paid: ${fault}.`, { extra });
    }
    // What is paid or has ended is refused for that, however often it was tried.
    if (!isFinal(state.status) && state.payment === 'none') await assertFewAttempts(order);
    try {
      return await openOrReplace(await begin(order.orderNo), order.userId);
    } catch (error) {
      if (error instanceof Problem) throw error;
      if (error instanceof ProviderBusyError) throw toBusy(error);
      throw unavailable('payment_unavailable', 'No payment can be started right now.', error);
    }
  };
}

function toBusy({ retryAfterMs }: ProviderBusyError): Problem {
  const retryAfterSeconds = Math.ceil(retryAfterMs / 1_000);
  const detail = 'The payment provider takes no more calls right now.';
  return new Problem('payment_unavailable', detail, { retryAfterSeconds });
}

function toRefusal(outcome: Exclude<BeginSessionOutcome, { kind: 'begun' }>): Problem {
  if (outcome.kind === 'not-stored') {
    const detail = 'The order is being stored; it can be paid in a moment.';
    return new Problem('not_yet_payable', detail, { retryAfterSeconds: 1 });
  }
  const { order, state } = outcome.stored;
  const extra = { order: viewOrder(order, state) };
  // A refunded order is not paid; a disputed payment is with the shop until it is decided.
  if (state.payment !== 'none' && state.payment !== 'refunded')
    return new Problem('already_paid', 'The order has been paid.', { extra });
  return new Problem('not_payable', 'The order can no longer be paid.', { extra });
}
