/** Faults of the environment that concern several settings together, each as a line for the operator. */

import { MYSQL_CONNECTIONS, STORES_AT_ONCE } from './limits.ts';

/**
 * Of a worker's other loops: starts, refunds, two pages of ends, events, push, the sale keeper, and the lock
 * of a rebuild. A loop that gets none within two seconds fails its pass.
 */
export const CONNECTIONS_OF_LOOPS = 8;

const DEMO_SECRET = /demo/i;

export function isProduction(given: Record<string, string>): boolean {
  return (given['NODE_ENV'] ?? 'production') === 'production';
}

/** Without a key no token can be verified. */
export function keysMissing(given: Record<string, string>): string[] {
  if (given['JWT_SECRET'] !== undefined) return [];
  if (given['JWT_JWKS_URL'] === undefined)
    return ['JWT_SECRET: is missing, and so is JWT_JWKS_URL: no token could be verified'];
  return given['DEMO_SALE_ID'] === undefined
    ? []
    : ['JWT_SECRET: is missing; the demo page signs tokens with it'];
}

/** Demo secrets are public: anyone could sign a token or a payment notice with them. */
export function demoInProduction(given: Record<string, string>): string[] {
  if (!isProduction(given)) return [];
  const faults = ['JWT_SECRET', 'PAYMENT_PROVIDER_API_KEY', 'WEBHOOK_SECRETS', 'ORDER_SIGNING_SECRETS']
    .filter((name) => isDemoSecret(given[name] ?? ''))
    .map((name) => `${name}: is a demo secret; production needs one of its own`);
  if (given['DEMO_SALE_ID'] === undefined) return faults;
  return [...faults, 'DEMO_SALE_ID: the demo page gives tokens to anyone: not in production'];
}

/** Orders and the key must not cross a network in plain text. A proxy on the same machine may add TLS. */
export function plainInProduction(given: Record<string, string>): string[] {
  const { PAYMENT_PROVIDER: name, PAYMENT_PROVIDER_URL: url = '' } = given;
  if (!isProduction(given) || name !== 'remote' || !URL.canParse(url)) return [];
  const { protocol, hostname } = new URL(url);
  const isLoopback = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/.test(hostname);
  if (protocol === 'https:' || isLoopback) return [];
  return ['PAYMENT_PROVIDER_URL: production calls its provider over https'];
}

/** A pool that its own transactions use up leaves the other loops of a worker without a connection. */
export function poolTooSmall(given: Record<string, string>): string[] {
  const storing = Number(given['STORES_AT_ONCE'] ?? STORES_AT_ONCE);
  const connections = Number(given['MYSQL_CONNECTIONS'] ?? MYSQL_CONNECTIONS);
  const needed = storing + CONNECTIONS_OF_LOOPS;
  if (!(connections < needed)) return [];
  return [
    `MYSQL_CONNECTIONS: is ${connections}; a worker with STORES_AT_ONCE ${storing} needs ${needed}, ${CONNECTIONS_OF_LOOPS} of them for its other loops`,
  ];
}

/** Webhook secrets are base64 after their prefix. */
function isDemoSecret(secrets: string): boolean {
  return secrets
    .split(',')
    .some((secret) => DEMO_SECRET.test(secret) || DEMO_SECRET.test(decodeWebhookSecret(secret)));
}

function decodeWebhookSecret(secret: string): string {
  return Buffer.from(secret.trim().replace(/^whsec_/, ''), 'base64').toString();
}
