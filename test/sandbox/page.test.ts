/**
 * The payment page as a browser without scripts gets it: what it shows, its buttons, and its way back to the
 * shop.
 */

import { expect, test } from 'vitest';
import { buildSessionRequest, connect, ORDER_NO, withWorld, type World } from './sandbox-world.ts';

const BROWSER = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };

async function openPage(
  world: World,
  overrides: Parameters<typeof buildSessionRequest>[0] = {},
  options: Parameters<World['startSandbox']>[0] = {},
): Promise<{ url: string; origin: string; id: string; html: string; response: Response }> {
  const sandbox = await world.startSandbox(options);
  const { url, providerSessionId } = await connect(sandbox).openSession(buildSessionRequest(overrides));
  const response = await fetch(url, { headers: BROWSER });
  return { url, origin: sandbox.url, id: providerSessionId, html: await response.text(), response };
}

/** Presses the page's own button, by the address that the page gives. */
async function press(page: { origin: string; html: string }, button: 'pay' | 'fail'): Promise<Response> {
  const action = new RegExp(`action="([^"]+/${button})"`).exec(page.html)?.[1];
  return await fetch(`${page.origin}${action}`, {
    method: 'POST',
    headers: { ...BROWSER, 'content-type': 'application/x-www-form-urlencoded' },
  });
}

test.each([
  ['SGD', 12_345, 'SGD\u00a0123.45'],
  ['JPY', 12_345, '¥12,345'],
  ['KWD', 12_345, 'KWD\u00a012.345'],
  ['USD', 5, '$0.05'],
  ['USD', 2_000_000_000_099, '$20,000,000,000.99'],
])('the page shows %s %d in major units', (currency, amount, shown) =>
  withWorld(async (world) => {
    const { html } = await openPage(world, { currency, amount });
    expect(html).toContain(`<p class="amount">${shown}</p>`);
    expect(html).toContain(`Pay ${shown}</button>`);
  }),
);

test('the page says that it is a sandbox, names the order, and allows no script', () =>
  withWorld(async (world) => {
    const { html, response } = await openPage(world);
    expect(html).toContain('No real money moves here.');
    expect(html).toContain(buildSessionRequest().orderNo);
    expect(html).toContain('<html lang="en">');
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(response.headers.get('cache-control')).toBe('no-store');
  }));

test('what the shop sends is escaped', () =>
  withWorld(async (world) => {
    const { html } = await openPage(world, { orderNo: `<script>alert("1")</script>&'` });
    expect(html).toContain('&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;');
    expect(html).not.toContain('<script');
  }));

test('pressing Pay leads back to the page, which then says paid and has no buttons', () =>
  withWorld(async (world) => {
    const page = await openPage(world);
    const paid = await press(page, 'pay');
    expect([paid.url, paid.redirected, paid.status]).toEqual([page.url, true, 200]);
    const html = await paid.text();
    expect(html).toContain('<strong>Paid.</strong>');
    expect(html).not.toContain('<form');
    expect(await world.receiver.next()).toMatchObject({
      body: expect.stringContaining('payment.succeeded'),
    });
    const again = await press(page, 'pay');
    expect(again.status).toBe(409);
    expect(await again.text()).toContain('<strong>Paid.</strong>');
  }));

test('pressing Fail says so and lets the shopper try again', () =>
  withWorld(async (world) => {
    const page = await openPage(world);
    const html = await (await press(page, 'fail')).text();
    expect(html).toContain('The payment failed, and nothing was charged.');
    expect((await press({ ...page, html }, 'pay')).status).toBe(200);
  }));

test('the page leads back to the shop with the order and the outcome, and stays without a script', () =>
  withWorld(async (world) => {
    const returnUrl = 'https://shop.example/checkout?lang=en';
    const page = await openPage(world, {}, { returnUrl });
    const backWith = (outcome: string) =>
      `<a class="back" href="https://shop.example/checkout?lang=en&amp;payment=${outcome}&amp;orderNo=${ORDER_NO}">`;
    expect(page.html).toContain(backWith('open'));
    const failed = await press(page, 'fail');
    expect(await failed.text()).toContain(backWith('failed'));
    const paid = await press(page, 'pay');
    expect(paid.headers.get('content-security-policy')).toContain("default-src 'none'");
    const html = await paid.text();
    expect(html).toContain(backWith('paid'));
    expect(html).not.toContain('<script');
  }));

test.each([
  ['voided', 'The shop has closed this payment.', {}],
  ['expired', 'The time to pay is over.', { expiresAtMs: 1 }],
] as const)('a %s session leads back to the shop, too', (outcome, sentence, times) =>
  withWorld(async (world) => {
    const page = await openPage(world, times, { returnUrl: 'https://shop.example/' });
    if (outcome === 'voided') await connect({ url: page.origin }).voidSession(page.id);
    const html = await (await fetch(page.url, { headers: BROWSER })).text();
    expect(html).toContain(sentence);
    expect(html).toContain(`href="https://shop.example/?payment=${outcome}&amp;orderNo=${ORDER_NO}"`);
  }),
);

test('without a shop to return to, the page has no link', () =>
  withWorld(async (world) => {
    expect((await openPage(world)).html).not.toContain('<a ');
  }));

test('an expired session has no buttons to press', () =>
  withWorld(async (world) => {
    const { html } = await openPage(world, { expiresAtMs: Date.now() - 1 });
    expect(html).toContain('The time to pay is over.');
    expect(html).not.toContain('<form');
  }));

test('behind a public address with a path, the page and its buttons stay under that path', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox({ publicUrl: 'https://shop.example/sandbox/' });
    const { url, providerSessionId } = await connect(sandbox).openSession(buildSessionRequest());
    expect(url).toBe(`https://shop.example/sandbox/pay/${providerSessionId}`);
    const html = await (await fetch(`${sandbox.url}/pay/${providerSessionId}`)).text();
    expect(html).toContain(`action="/sandbox/v1/payment_sessions/${providerSessionId}/pay"`);
  }));

test('an unknown page is a readable 404', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const response = await fetch(`${sandbox.url}/pay/ps_none`, { headers: BROWSER });
    expect(response.status).toBe(404);
    expect(await response.text()).toContain('<h1>There is nothing here</h1>');
  }));
