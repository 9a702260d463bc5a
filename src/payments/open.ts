/** The provider that the configuration names. */

import type { PaymentProvider } from './provider.ts';
import { createSandboxAdapter } from './sandbox/adapter.ts';

/** Providers answer within a second or two; a shopper, and a step of a workflow, wait no longer than this. */
const REQUEST_TIMEOUT_MS = 5_000;

export interface ProviderConfig {
  PAYMENT_PROVIDER_URL: string;
  PAYMENT_PROVIDER_API_KEY: string;
  WEBHOOK_SECRETS: readonly string[];
}

export function openProvider(config: ProviderConfig): PaymentProvider {
  return createSandboxAdapter({
    baseUrl: config.PAYMENT_PROVIDER_URL,
    apiKey: config.PAYMENT_PROVIDER_API_KEY,
    webhookSecrets: config.WEBHOOK_SECRETS,
    requestTimeoutMs: REQUEST_TIMEOUT_MS,
  });
}
