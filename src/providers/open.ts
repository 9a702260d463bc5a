/** Creates the payment provider that the configuration names. */

import type { Deployment } from '../deployment.ts';
import type { Paced } from './pacing.ts';
import type { AmountRules, PaymentProvider } from './provider.ts';
import { createRemoteAdapter, remoteAmountRules } from './remote.ts';
import { markOf } from './signed-order.ts';
import {
  createStripeAdapter,
  DEFAULT_PAYMENT_METHODS,
  type StripePaymentMethod,
  stripeAmountRules,
} from './stripe.ts';

/** Providers answer within a second or two. A shopper or a workflow's step waits for at most this time. */
const REQUEST_TIMEOUT_MS = 5_000;

interface ProviderAccess {
  PAYMENT_PROVIDER_API_KEY: string;
  WEBHOOK_SECRETS: readonly string[];
}

export type ProviderConfig = ProviderAccess &
  (
    | { PAYMENT_PROVIDER?: 'sandbox' | 'remote' | undefined; PAYMENT_PROVIDER_URL: string }
    | {
        PAYMENT_PROVIDER: 'stripe';
        PAYMENT_PROVIDER_URL?: string | undefined;
        PAYMENT_RETURN_URL: string;
        STRIPE_PAYMENT_METHODS?: readonly StripePaymentMethod[] | undefined;
      }
  );

/**
 * @param deployment whose payments it opens and sees; asked when it is needed, as a store must have given it
 * @param paced makes each call when it may be made; without it at once
 */
export function openProvider(
  config: ProviderConfig,
  deployment: { known(): Deployment },
  paced?: Paced,
): PaymentProvider {
  const access = {
    apiKey: config.PAYMENT_PROVIDER_API_KEY,
    webhookSecrets: config.WEBHOOK_SECRETS,
    deployment: () => markOf(deployment.known()),
    requestTimeoutMs: REQUEST_TIMEOUT_MS,
    paced,
  };
  switch (config.PAYMENT_PROVIDER) {
    case undefined:
    case 'sandbox':
    case 'remote':
      return createRemoteAdapter({
        ...access,
        name: config.PAYMENT_PROVIDER ?? 'sandbox',
        baseUrl: config.PAYMENT_PROVIDER_URL,
      });
    case 'stripe':
      return createStripeAdapter({
        ...access,
        baseUrl: config.PAYMENT_PROVIDER_URL,
        returnUrl: config.PAYMENT_RETURN_URL,
        paymentMethods: config.STRIPE_PAYMENT_METHODS ?? DEFAULT_PAYMENT_METHODS,
      });
    default:
      return config satisfies never;
  }
}

/** Without access to the provider. */
export function amountRulesOf(name: 'sandbox' | 'remote' | 'stripe'): AmountRules {
  switch (name) {
    case 'sandbox':
    case 'remote':
      return remoteAmountRules;
    case 'stripe':
      return stripeAmountRules;
    default:
      return name satisfies never;
  }
}
