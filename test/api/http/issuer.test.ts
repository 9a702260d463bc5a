/** A shop's own tokens at the API: a whole purchase with one, and an issuer whose keys cannot be read. */

import { ulid } from 'ulidx';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { MAX_OTHERS_IN_FLIGHT } from '../../../src/api/app.ts';
import { USUAL_RULES, createKeySet } from '../../../src/api/http/auth.ts';
import { buildSale } from '../../support/factories.ts';
import type { HttpApp } from '../../support/http-app.ts';
import {
  createIssuerKey,
  ISSUER,
  openIssuer,
  type Issuer,
  type IssuerKey,
} from '../../support/jwks-server.ts';
import { acceptedOf, JWT_SECRET, orderOf, refusalOf, send } from '../../support/shopper.ts';
import { silent } from '../../support/stores.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
let key: IssuerKey;
beforeAll(async () => {
  [api, key] = await Promise.all([openApi(), createIssuerKey('shop')]);
});
afterAll(() => api.close());

/** An app that takes tokens of this issuer too. */
async function openShop(issuer: Issuer): Promise<HttpApp> {
  onTestFinished(() => issuer.close());
  const keys = createKeySet(issuer.url, silent, { attemptTimeoutMs: 600_000, waitMs: 600_000 });
  onTestFinished(() => keys.stop());
  const rules = { ...USUAL_RULES, userClaim: 'user_id', issuers: [ISSUER, 'holdfast'] as const };
  const app = await api.withParts({ tokens: { ...rules, secret: JWT_SECRET, keys } });
  return app;
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

test("a shopper buys, looks and is distinguished with the shop's own token", async () => {
  const app = await openShop(await openIssuer(key));
  const { saleId } = await api.stores.openSale(buildSale());
  const userId = 'VXNlcjoxMjM=';
  const headers = bearer(await key.sign({ sub: undefined, user_id: userId }));
  const body = { saleId, items: [{ sku: 'lamp', quantity: 1 }] };

  const reply = await send(`${app.url}/v1/orders`, 'POST', {
    body,
    headers: { ...headers, 'idempotency-key': ulid() },
  });
  const { orderNo } = acceptedOf(reply);

  expect(orderOf(await send(`${app.url}/v1/orders/${orderNo}`, 'GET', { headers })).orderNo).toBe(orderNo);
  const other = bearer(await key.sign({ user_id: 'VXNlcjoxMjQ=' }));
  expect(refusalOf(await send(`${app.url}/v1/orders/${orderNo}`, 'GET', { headers: other }))).toBe(
    '404 order_not_found',
  );
});

test("an operator's rights come with the shop's own token", async () => {
  const app = await openShop(await openIssuer(key));
  const path = `${app.url}/v1/admin/payments/999/refund`;
  const headers = bearer(await key.sign({ user_id: 'grace', roles: ['operator'] }));
  expect(refusalOf(await send(path, 'POST', { headers }))).toBe('404 payment_not_found');
  const viewer = bearer(await key.sign({ user_id: 'grace', roles: ['viewer'] }));
  expect(refusalOf(await send(path, 'POST', { headers: viewer }))).toBe('403 forbidden');
});

test('while its keys cannot be read, a token is neither taken nor refused', async () => {
  const issuer = await openIssuer(key);
  issuer.answerWith((_, response) => response.writeHead(500).end());
  const app = await openShop(issuer);

  const headers = bearer(await key.sign({ user_id: 'ada' }));
  const reply = await send(`${app.url}/v1/orders/nope`, 'GET', { headers });

  expect(refusalOf(reply)).toBe('503 keys_unavailable');
  expect(reply.headers.get('retry-after')).toBe('10');
});

test('more callers than a lane has places wait for keys, and keep no other from it', async () => {
  const issuer = await openIssuer(key);
  issuer.freeze();
  const app = await openShop(issuer);
  const headers = bearer(await key.sign({ user_id: 'ada' }));
  const look = () => send(`${app.url}/v1/orders/nope`, 'GET', { headers });

  const waiting = Array.from({ length: MAX_OTHERS_IN_FLIGHT + 20 }, look);
  await waitFor('the reading', () => issuer.readings() === 1);
  const sale = await send(`${app.url}/v1/sales/nope`, 'GET');
  expect(refusalOf(sale)).toBe('404 sale_not_found');

  issuer.thaw();
  const answers = (await Promise.all(waiting)).map(refusalOf);
  // At once they come into the lane, which has its bound.
  expect(answers).toContain('404 order_not_found');
  expect(answers).not.toContain('503 keys_unavailable');
});
