/** What the check reads of the environment: the product's own settings about its provider. */

import { z } from 'zod';
import { checkout, httpUrl, parseEnv } from '../src/config.ts';

const checkSchema = z.object({
  PAYMENT_PROVIDER_URL: httpUrl,
  PAYMENT_PROVIDER_API_KEY: checkout.PAYMENT_PROVIDER_API_KEY,
  WEBHOOK_SECRETS: checkout.WEBHOOK_SECRETS,
});

/**
 * @param url stands before the environment's `PAYMENT_PROVIDER_URL`
 * @throws ConfigError naming every fault
 */
export function loadCheckConfig(url: string | undefined, env: NodeJS.ProcessEnv) {
  return parseEnv(checkSchema, url === undefined ? env : { ...env, PAYMENT_PROVIDER_URL: url });
}
