/**
 * The demo page in a real browser, in front of the whole service: a shopper buys, pays, cancels and meets
 * failures.
 */

import type { Locator, Page } from 'playwright-core';
import { beforeAll, expect, test } from 'vitest';
import { signToken } from '../../src/api/http/auth.ts';
import type { Sale } from '../../src/sales/sale.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale, uniqueSaleId } from '../support/factories.ts';
import { buildDemo } from '../support/http-app.ts';
import { JWT_SECRET, orderOf as orderOfReply, send } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';
import { openBrowser } from './browser.ts';

const WIDE = { width: 1280 };
/** The narrowest phone in use. */
const NARROW = { width: 360 };
const TEMPORAL_UI_URL = 'http://temporal.example';

const withBrowser = openBrowser();
let checkout: Checkout;
beforeAll(async () => {
  checkout = await openCheckout({ overrides: { demo: buildDemo(uniqueSaleId(), TEMPORAL_UI_URL) } });
});

test.each([WIDE, NARROW])('a shopper buys and pays on a page $width pixels wide', async (size) => {
  await onDemoPage(size, buildSale(), async (page) => {
    await page.getByText('10 of 10 left').waitFor();
    await page.getByText('at most 2 per person').waitFor();
    await page.getByRole('button', { name: 'Buy: Storm lamp' }).click();
    const order = orderOf(page, '1 × Storm lamp');
    await order.getByText('Awaiting payment').waitFor();
    await order.getByText(/^(29:\d\d|30:00) left to pay$/).waitFor();
    await page.getByText('9 of 10 left').waitFor();
    expect(await order.getByRole('link', { name: 'Workflow' }).getAttribute('href')).toMatch(
      new RegExp(`^${TEMPORAL_UI_URL}/namespaces/default/workflows/s[0-9a-z]{26}-0-1-[0-9A-Z]{26}$`),
    );

    await order.getByRole('button', { name: 'Pay for 1 × Storm lamp' }).click();
    await pressPay(page, '€49.00');
    await page.getByText('The shop is notified of your payment.').waitFor();
    await page.getByRole('link', { name: 'Back to the shop' }).click();

    await order.getByText('Paid', { exact: true }).waitFor();
    await expect.poll(() => order.getByRole('button').count()).toBe(0);
    await page.reload();
    await order.getByText('Paid', { exact: true }).waitFor();
    expect(await widthOverflow(page)).toBeLessThanOrEqual(0);
  });
});

test.each([WIDE, NARROW])('money that went back is shown on a page $width pixels wide', async (size) => {
  await onDemoPage(size, buildSale(), async (page) => {
    await page.getByRole('button', { name: 'Buy: Storm lamp' }).click();
    const order = orderOf(page, '1 × Storm lamp');
    await order.getByRole('button', { name: 'Pay for 1 × Storm lamp' }).click();
    await pressPay(page, '€49.00');
    await page.getByRole('link', { name: 'Back to the shop' }).click();
    await order.getByText('Paid', { exact: true }).waitFor();
    const orderNo = String(await order.locator('[data-number]').textContent());

    await refund(page, orderNo, 900);
    await page.reload();
    await order.getByText('Partly refunded').waitFor();
    await order.getByText('You have €9.00 of €49.00 back.').waitFor();
    expect(await widthOverflow(page)).toBeLessThanOrEqual(0);

    await refund(page, orderNo, 4_000);
    await page.reload();
    await order.getByText('Refunded', { exact: true }).waitFor();
    await order.getByText('You have the money back.').waitFor();
    expect(await order.getByRole('button').count()).toBe(0);
  });
});

test('a cancelled order gives its units back', async () => {
  await onDemoPage(WIDE, buildSale(), async (page) => {
    await page
      .getByRole('article')
      .filter({ hasText: 'Storm lamp' })
      .getByLabel('Quantity')
      .selectOption('2');
    await page.getByRole('button', { name: 'Buy: Storm lamp' }).click();
    await page.getByText('8 of 10 left').waitFor();
    await page.getByText('Held for you: see My orders.').waitFor();
    const order = orderOf(page, '2 × Storm lamp');
    await order.getByRole('button', { name: 'Cancel 2 × Storm lamp' }).click();
    await order.getByText('Cancelled', { exact: true }).waitFor();
    await page.getByText('10 of 10 left').waitFor();
    expect(await page.getByText('Held for you: see My orders.').count()).toBe(0);
  });
});

test('an order that is being cancelled is no longer held and cannot be paid', async () => {
  await onDemoPage(WIDE, buildSale(), async (page) => {
    // The order stays in this state: the page sees every answer with the wish to cancel in it.
    let isClosing = false;
    await page.route(/\/v1\/orders\/[^/]+(\/cancel)?$/, async (route) => {
      isClosing ||= route.request().method() === 'POST';
      if (!isClosing) return route.continue();
      const response = await route.fetch({
        method: 'GET',
        url: route.request().url().replace('/cancel', ''),
        headers: { ...route.request().headers(), 'if-none-match': '' },
      });
      const view: unknown = await response.json();
      return route.fulfill({
        response,
        json: Object.assign({}, view, { closing: true, reason: 'shopper_request' }),
      });
    });
    await page.getByRole('button', { name: 'Buy: Storm lamp' }).click();
    const order = orderOf(page, '1 × Storm lamp');
    await order.getByText('Awaiting payment').waitFor();
    await page.getByText('Held for you: see My orders.').waitFor();
    await order.getByRole('button', { name: 'Cancel 1 × Storm lamp' }).click();
    await order.getByText('Being cancelled…').waitFor();
    expect(await order.getByRole('button').count()).toBe(0);
    expect(await page.getByText('Held for you: see My orders.').count()).toBe(0);
  });
});

test('a notice that the service does not answer goes away with its next good answer', async () => {
  await onDemoPage(WIDE, buildSale(), async (page) => {
    await page.getByRole('button', { name: 'Buy: Storm lamp' }).click();
    const order = orderOf(page, '1 × Storm lamp');
    await order.getByText('Awaiting payment').waitFor();
    await page.route('**/v1/**', (route) => route.abort());
    await order.getByRole('button', { name: 'Pay for 1 × Storm lamp' }).click();
    await order.getByText('The service does not answer.').waitFor();
    await page.unroute('**/v1/**');
    await order.getByText('The service does not answer.').waitFor({ state: 'detached' });
    expect(await order.getByRole('button').count()).toBe(2);
  });
});

test('on a phone a new order comes into view and has the focus', async () => {
  await onDemoPage(NARROW, buildSale(), async (page) => {
    await page.getByRole('button', { name: 'Buy: Storm lamp' }).click();
    const order = orderOf(page, '1 × Storm lamp');
    await order.getByText('Awaiting payment').waitFor();
    await expect.poll(() => isInView(order)).toBe(true);
    expect(await page.locator('li:focus').count()).toBe(1);
    await page.getByRole('status').getByText('1 × Storm lamp: Awaiting payment').waitFor();
    // The next key press goes on from the order.
    await page.keyboard.press('Tab');
    expect(await page.locator('button:focus').getAttribute('aria-label')).toBe('Pay for 1 × Storm lamp');
  });
});

test('a failed payment is shown on its order after the way back, and can be repeated', async () => {
  await onDemoPage(NARROW, buildSale(), async (page) => {
    await page.getByRole('button', { name: 'Buy: Storm lamp' }).click();
    const order = orderOf(page, '1 × Storm lamp');
    await order.getByRole('button', { name: 'Pay for 1 × Storm lamp' }).click();
    await page.getByRole('button', { name: 'Let this payment fail' }).click();
    await page.getByText('The payment failed, and nothing was charged.').waitFor();
    await page.getByRole('link', { name: 'Back to the shop' }).click();
    await order.getByText('The payment page reported that your last payment failed.').waitFor();
    await expect.poll(() => isInView(order)).toBe(true);
    expect(new URL(page.url()).search).toBe('');

    await order.getByRole('button', { name: 'Pay for 1 × Storm lamp' }).click();
    await pressPay(page, '€49.00');
    await page.getByRole('link', { name: 'Back to the shop' }).click();
    await order.getByText('Paid', { exact: true }).waitFor();
    expect(await page.getByText('The payment page').count()).toBe(0);
  });
});

test.each([-90, 90])(
  'with a clock that is %s s off, no more time is shown than there is',
  async (seconds) => {
    await onDemoPage(WIDE, buildSale(), async (page) => {
      await page.route('**/v1/**', async (route) => {
        const response = await route.fetch();
        const date = new Date(Date.now() + seconds * 1000).toUTCString();
        await route.fulfill({ response, headers: { ...response.headers(), date } });
      });
      await page.reload();
      await page.getByRole('button', { name: 'Buy: Storm lamp' }).click();
      const left = orderOf(page, '1 × Storm lamp').getByText(/^\d+:\d\d left to pay$/);
      await left.waitFor();
      // Ahead, the service's clock counts; behind, the window is the most that there can be.
      expect(await left.textContent()).toMatch(seconds > 0 ? /^28:[23]\d / : /^30:00 /);
    });
  },
);

test('a refusal is shown in plain words', async () => {
  await onDemoPage(WIDE, buildSale(), async (page) => {
    const lamp = page.getByRole('article').filter({ hasText: 'Storm lamp' });
    await lamp.getByLabel('Quantity').selectOption('2');
    await lamp.getByRole('button').click();
    await page.getByText('8 of 10 left').waitFor();
    await lamp.getByRole('button').click();
    await lamp.getByText('At most 2 per person; you have 2.').waitFor();
  });
});

test('a purchase whose answer is lost is asked for again with the same key, and bought once', async () => {
  await onDemoPage(WIDE, buildSale(), async (page) => {
    const keys: (string | undefined)[] = [];
    await page.route('**/v1/orders', async (route) => {
      keys.push(route.request().headers()['idempotency-key']);
      if (keys.length > 1) return route.continue();
      // It reaches the service; only the way back fails.
      await route.fetch();
      return route.abort();
    });
    await page.getByRole('button', { name: 'Buy: Storm lamp' }).click();
    const order = orderOf(page, '1 × Storm lamp');
    await order.getByText('Awaiting payment').waitFor();
    expect(keys).toEqual([keys[0], keys[0]]);
    await page.getByText('9 of 10 left').waitFor();
    expect(await order.count()).toBe(1);
  });
});

test('names from the sale are shown as text, never as markup', async () => {
  const sale = buildSale({ name: '<img src=x onerror="throw 1">' });
  await onDemoPage(WIDE, sale, async (page) => {
    await page.getByRole('heading', { level: 1, name: sale.name }).waitFor();
    expect(await page.locator('img').count()).toBe(0);
  });
});

/** Staff send so much back, in minor units; until the shopper's order shows it. */
async function refund(page: Page, orderNo: string, amount: number): Promise<void> {
  const { origin } = new URL(page.url());
  const bearer = (token: unknown) => ({ authorization: `Bearer ${String(token)}` });
  const shopper = bearer(await page.evaluate(`JSON.parse(sessionStorage.getItem('holdfast')).session.token`));
  const readRefunded = async (): Promise<number> =>
    orderOfReply(await send(`${origin}/v1/orders/${orderNo}`, 'GET', { headers: shopper })).refunded;
  const before = await readRefunded();
  const olga = bearer(await signToken(JWT_SECRET, 'olga', '1h', { roles: ['operator'] }));
  await send(`${origin}/v1/admin/orders/${orderNo}/refunds`, 'POST', {
    headers: { ...olga, 'idempotency-key': crypto.randomUUID() },
    body: { amount },
  });
  await waitFor('the money to go back', async () => (await readRefunded()) === before + amount);
}

/** The demo page of this sale, in front of the whole service. */
async function onDemoPage(
  size: { width: number },
  sale: Sale,
  use: (page: Page) => Promise<void>,
): Promise<void> {
  await checkout.stores.openSale(sale);
  await withBrowser(size, async (context) => {
    const page = await context.newPage();
    // The service has one demo sale, and each test has another.
    await page.route('**/demo/token', async (route) => {
      const response = await route.fetch();
      const reply: unknown = await response.json();
      await route.fulfill({ response, json: Object.assign({}, reply, { saleId: sale.saleId }) });
    });
    await page.goto(checkout.url);
    await use(page);
  });
}

/** On the provider's page, whose button names the amount; the demo's own buttons to pay name the order. */
async function pressPay(page: Page, amount: string): Promise<void> {
  await page.getByRole('button', { name: `Pay ${amount}`, exact: true }).click();
}

function orderOf(page: Page, items: string): Locator {
  return page.getByRole('listitem').filter({ hasText: items });
}

/** The whole of it, without scrolling. */
async function isInView(locator: Locator): Promise<boolean> {
  const [box, size] = [await locator.boundingBox(), locator.page().viewportSize()];
  return box !== null && size !== null && box.y >= 0 && box.y + box.height <= size.height;
}

function widthOverflow(page: Page): Promise<number> {
  return page.evaluate('document.documentElement.scrollWidth - window.innerWidth');
}
