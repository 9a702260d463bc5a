/** What the API serves to people, and the headers by which browsers keep to what it serves. */

import { beforeAll, expect, test } from 'vitest';
import { problemReply } from '../../../src/api/http/problem.ts';
import { PROBLEM_CODES } from '../../support/api-contract.ts';
import { buildSale } from '../../support/factories.ts';
import { buildDemo, type HttpApp } from '../../support/http-app.ts';
import { acceptedOf, problemOf, refusalOf, send } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { openRaw } from '../raw-http.ts';

let api: TestApi;
let app: HttpApp;
let saleId: string;
beforeAll(async () => {
  api = await openApi();
  ({ saleId } = await api.stores.openSale(buildSale()));
  app = await api.withParts({ demo: buildDemo(saleId) });
});

test('the type of a problem is the address of a page that says what to do', async () => {
  const shopper = await app.shopper();
  const refused = await shopper.placeOrder({ saleId, items: [{ sku: 'no-such', quantity: 1 }] });
  expect(refusalOf(refused)).toBe('400 unknown_sku');
  const { type } = problemOf(refused);

  const page = await send(new URL(String(type), app.url).href, 'GET');

  expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
  expect(page.body).toContain('Read the sale again.');
  expect(page.body).toContain('The sale has no such SKU. <code>sku</code> names it.');
});

test('each code has its page, with each member of its document, and no Markdown is left in it', async () => {
  for (const code of PROBLEM_CODES) {
    const { body } = await send(`${app.url}/problems/${code}`, 'GET');
    const own = Object.keys(problemReply(code).shape).slice(5);
    for (const text of [code, ...own]) expect(body, code).toContain(`<code>${text}</code>`);
    expect(body, code).not.toMatch(/`|\*\*|\]\(/);
  }
});

test.each(['nothing', 'toString', '__proto__', 'Sold_out'])('there is no page of %s', async (code) => {
  expect(refusalOf(await send(`${app.url}/problems/${code}`, 'GET'))).toBe('404 no_such_resource');
});

test.each([
  '/',
  '/demo/page.js',
  '/demo/page.css',
  '/demo/work.js',
  '/demo/altcha.js',
  '/problems/sold_out',
  '/problems/page.css',
  '/docs/page.js',
  '/docs/viewer.js',
])('%s lets a browser load what the API serves and nothing else, and lets no site frame it', async (path) => {
  const { headers } = await send(`${app.url}${path}`, 'GET');
  const policy = headers.get('content-security-policy') ?? '';
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain("script-src 'self';");
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).not.toMatch(/unsafe|\*|https?:/);
  expect(headers.get('x-content-type-options')).toBe('nosniff');
  expect(headers.get('referrer-policy')).toBe('no-referrer');
});

test('the demo page names its workers in its policy, and the file of its worker alone may make WebAssembly', async () => {
  const policyOf = async (path: string) =>
    (await send(`${app.url}${path}`, 'GET')).headers.get('content-security-policy') ?? '';
  expect(await policyOf('/')).toContain("worker-src 'self'");
  const ofWorker = await policyOf('/demo/scrypt.js');
  expect(ofWorker).toContain("script-src 'self' 'wasm-unsafe-eval';");
  expect(ofWorker).toContain("default-src 'none'");
  for (const path of ['/', '/docs', '/problems/sold_out']) expect(await policyOf(path)).not.toContain('wasm');
});

test('no answer is taken for another type than it says', async () => {
  const shopper = await app.shopper();
  const placed = await shopper.placeOrder({ saleId, items: [{ sku: 'mug', quantity: 1 }] });
  const raw = await openRaw(app.url);
  raw.write('nonsense\r\n\r\n');
  const [unreadable] = await raw.untilClosed();
  const answers = [
    placed,
    await shopper.getOrder(acceptedOf(placed).orderNo),
    await shopper.getOrder('unknown'),
    await send(`${app.url}/v1/sales/${saleId}`, 'GET'),
    await send(`${app.url}/v1/admin/sales`, 'GET'),
    await send(`${app.url}/nothing`, 'GET'),
  ];
  const seen = [...answers, unreadable].map((answer) => answer?.headers.get('x-content-type-options'));
  expect(seen).toEqual(seen.map(() => 'nosniff'));
});

test('no answer is for pages of every origin', async () => {
  for (const path of ['/', '/problems/sold_out', `/v1/sales/${saleId}`, '/v1/admin/sales']) {
    const headers = { origin: 'https://elsewhere.example' };
    const reply = await send(`${app.url}${path}`, 'GET', { headers });
    expect(reply.headers.get('access-control-allow-origin'), path).toBeNull();
  }
});
