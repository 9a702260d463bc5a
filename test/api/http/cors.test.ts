/** Storefronts on other origins: which calls a browser lets their pages make, and which answers read. */

import { beforeAll, expect, test } from 'vitest';
import { createTestClock } from '../../support/clock.ts';
import { buildSale } from '../../support/factories.ts';
import type { HttpApp } from '../../support/http-app.ts';
import { refusalOf, send, type Shopper } from '../../support/shopper.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, type TestApi } from '../open-api.ts';

const SHOP = 'https://shop.example';
const OTHER_SHOP = 'http://localhost:5173';

let api: TestApi;
let app: HttpApp;
let shopper: Shopper;
let saleId: string;
beforeAll(async () => {
  api = await openApi();
  app = await api.withParts({ corsOrigins: [SHOP, OTHER_SHOP] });
  shopper = await app.shopper();
  ({ saleId } = await api.stores.openSale(buildSale()));
});

const cart = () => ({ saleId, items: [{ sku: 'mug', quantity: 1 }] });
const allowed = (headers: Headers) => headers.get('access-control-allow-origin');

/** What a browser asks before a page may send a purchase. */
function preflight(url: string, origin: string, method = 'POST'): Promise<Response> {
  return fetch(url, {
    method: 'OPTIONS',
    headers: {
      origin,
      'access-control-request-method': method,
      'access-control-request-headers': 'authorization,content-type,idempotency-key',
    },
  });
}

test.each([SHOP, OTHER_SHOP])("a page of %s reads the answers to shoppers' calls", async (origin) => {
  const placed = await shopper.placeOrder(cart(), { origin });
  const sale = await send(`${app.url}/v1/sales/${saleId}`, 'GET', { headers: { origin } });

  expect([placed.status, sale.status]).toEqual([202, 200]);
  for (const { headers } of [placed, sale]) {
    expect(allowed(headers)).toBe(origin);
    expect(headers.get('access-control-expose-headers')?.split(',')).toEqual([
      'ETag',
      'Location',
      'Preference-Applied',
      'RateLimit',
      'RateLimit-Policy',
      'Retry-After',
      'X-Request-Id',
    ]);
    expect(headers.get('access-control-allow-credentials')).toBeNull();
  }
});

test.each([
  ['of another origin', 'https://evil.example'],
  ['of another scheme', 'http://shop.example'],
  ['of another port', 'https://shop.example:8443'],
  ['of a subdomain', 'https://www.shop.example'],
  ['of an origin that begins alike', 'https://shop.example.evil.example'],
  ['without an origin of its own', 'null'],
  ['of any origin', '*'],
])('a page %s reads nothing', async (_, origin) => {
  const sale = await send(`${app.url}/v1/sales/${saleId}`, 'GET', { headers: { origin } });
  const asked = await preflight(`${app.url}/v1/orders`, origin);

  expect([allowed(sale.headers), allowed(asked.headers)]).toEqual([null, null]);
});

test('a cache never gives the answer for one origin to another', async () => {
  const url = `${app.url}/v1/sales/${saleId}`;
  for (const headers of [{}, { origin: SHOP }, { origin: 'https://evil.example' }]) {
    expect((await send(url, 'GET', { headers })).headers.get('vary')).toBe('Origin');
  }
});

test('a preflight needs no token, and says what a page may send', async () => {
  const { status, headers } = await preflight(`${app.url}/v1/orders`, SHOP);

  expect(status).toBe(204);
  expect(allowed(headers)).toBe(SHOP);
  expect(headers.get('access-control-allow-methods')).toBe('GET,HEAD,POST');
  expect(headers.get('access-control-allow-headers')?.split(',')).toEqual([
    'Authorization',
    'Content-Type',
    'Idempotency-Key',
    'If-None-Match',
    'Last-Event-ID',
    'Prefer',
    'X-Request-Id',
    'traceparent',
  ]);
  expect(headers.get('access-control-max-age')).toBe('7200');
});

test('a page reads refusals, with when to come back', async () => {
  const headers = { origin: SHOP };
  const replies = [
    await send(`${app.url}/v1/orders`, 'POST', { headers, body: cart() }),
    await send(`${app.url}/v1/orders/unknown`, 'GET', { headers }),
    await send(`${app.url}/v1/sales/unknown`, 'GET', { headers }),
    await shopper.placeOrder('?', headers),
  ];

  expect(replies.map(refusalOf)).toEqual([
    '401 unauthorized',
    '401 unauthorized',
    '404 sale_not_found',
    '400 malformed_request',
  ]);
  for (const reply of replies) expect(allowed(reply.headers)).toBe(SHOP);
});

test('a page reads that there is no room, which is answered before its token is verified, and its preflight has room', async () => {
  let letGo = (): void => {};
  const gate = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const { reservations } = api.stores;
  const full = await api.withParts({
    corsOrigins: [SHOP],
    reservations: { ...reservations, reserve: (request) => gate.then(() => reservations.reserve(request)) },
    // It stands still: on a slow machine the first to wait for a place would leave before the last has come.
    clock: createTestClock(),
    purchasesAtOnce: 1,
    purchasesWaiting: 3,
  });
  const buyer = await full.shopper();
  const replies = Array.from({ length: 4 }, () => buyer.placeOrder(cart()));
  const refused = await waitFor('the lane to be full', async () => {
    const probe = await send(`${full.url}/v1/orders`, 'POST', {
      headers: { origin: SHOP },
      body: cart(),
    });
    return refusalOf(probe) === '503 overloaded' && probe;
  });

  expect(allowed(refused.headers)).toBe(SHOP);
  expect(refused.headers.get('access-control-expose-headers')).toContain('Retry-After');
  expect(refused.headers.get('retry-after')).toMatch(/^[1-9]$/);
  expect(refused.headers.get('vary')).toBe('Origin');
  expect((await preflight(`${full.url}/v1/orders`, SHOP)).status).toBe(204);
  letGo();
  await Promise.all(replies);
});

test.each([
  '/v1/admin/orders/x/return-stock',
  '/v1/webhooks/payments',
  '/metrics',
  '/healthz',
  '/v1/ordersx',
  '/v1/%6frders',
])('%s is not for pages', async (path) => {
  const asked = await preflight(`${app.url}${path}`, SHOP);
  const answered = await fetch(`${app.url}${path}`, { method: 'POST', headers: { origin: SHOP } });

  expect([allowed(asked.headers), allowed(answered.headers)]).toEqual([null, null]);
});

test('OPTIONS without a preflight names the methods, as for any caller', async () => {
  const reply = await fetch(`${app.url}/v1/orders`, { method: 'OPTIONS', headers: { origin: SHOP } });

  expect([reply.status, reply.headers.get('allow')]).toEqual([200, 'POST, HEAD, GET']);
});

test('without origins none is named', async () => {
  const sale = await send(`${api.url}/v1/sales/${saleId}`, 'GET', { headers: { origin: SHOP } });
  const asked = await preflight(`${api.url}/v1/orders`, SHOP);

  expect([allowed(sale.headers), allowed(asked.headers)]).toEqual([null, null]);
  expect(sale.headers.get('vary')).toBeNull();
});
