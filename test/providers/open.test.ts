/** The choice of the payment provider by the configuration. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { openProvider } from '../../src/providers/open.ts';
import { openScriptedStripe, type ScriptedStripe } from './stripe/scripted-stripe.ts';
import { buildPaidSession, buildSessionRequest, ORDER_NO, SECRET } from './stripe/stripe-world.ts';

const access = { PAYMENT_PROVIDER_API_KEY: 'sk_test_123', WEBHOOK_SECRETS: [SECRET] };
const own = { known: () => ({ id: '0b1c', name: 'lamps' }) };

let stripe: ScriptedStripe;
beforeAll(async () => {
  stripe = await openScriptedStripe();
});
afterAll(() => stripe.close());

test('the sandbox is the provider unless the configuration names Stripe, or a server of the shop', () => {
  const PAYMENT_PROVIDER_URL = stripe.url;

  // Webhook secrets of the sandbox are base64.
  const sandbox = { ...access, WEBHOOK_SECRETS: ['whsec_b3Blbi1wcm92aWRlci10ZXN0'], PAYMENT_PROVIDER_URL };
  expect(openProvider(sandbox, own).name).toBe('sandbox');
  expect(openProvider({ ...sandbox, PAYMENT_PROVIDER: 'sandbox' }, own).name).toBe('sandbox');
  expect(openProvider({ ...sandbox, PAYMENT_PROVIDER: 'remote' }, own).name).toBe('remote');
});

test('Stripe is asked at the configured address, and sends the shopper back to the configured page', async () => {
  stripe.script('POST /v1/checkout/sessions', {
    status: 200,
    body: buildPaidSession({ url: 'https://checkout.stripe.com/c/pay/cs_1' }),
  });
  const config = {
    ...access,
    PAYMENT_PROVIDER: 'stripe' as const,
    PAYMENT_PROVIDER_URL: stripe.url,
    PAYMENT_RETURN_URL: 'https://shop.example/orders',
  };
  const provider = openProvider(config, own);

  const session = await provider.openSession(buildSessionRequest());

  expect(provider.name).toBe('stripe');
  expect(session.providerSessionId).toBe('cs_1');
  expect(stripe.seen[0]?.form).toMatchObject({ 'metadata[holdfast_deployment]': 'lamps.0b1c' });
  expect(stripe.seen[0]?.form['success_url']).toBe(`https://shop.example/orders?orderNo=${ORDER_NO}`);
});

test('an address of Stripe with a path, which its client would drop, is refused', () => {
  const config = {
    ...access,
    PAYMENT_PROVIDER: 'stripe',
    PAYMENT_PROVIDER_URL: 'https://stripe.example/eu',
    PAYMENT_RETURN_URL: 'https://shop.example/orders',
  } as const;

  expect(() => openProvider(config, own)).toThrow('has no path');
});
