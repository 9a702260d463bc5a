import type { BrowserContext, Page } from 'playwright-core';
import { expect, test } from 'vitest';
import type { Sale } from '../../src/domain/sale.ts';
import { openCheckout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { withBrowser } from './browser.ts';

const WIDE = { width: 1280 };
/** The narrowest phone in use. */
const NARROW = { width: 360 };
const TEMPORAL_UI_URL = 'http://temporal.example';

test.each([WIDE, NARROW])('a shopper buys and pays on a page $width pixels wide', async (size) => {
  await onDemoPage(size, buildSale(), async (page, context) => {
    await page.getByText('10 of 10 left').waitFor();
    await page.getByRole('button', { name: 'Buy: Storm lamp' }).click();
    const order = page.getByRole('listitem').filter({ hasText: '1 × Storm lamp' });
    await order.getByText('Awaiting payment').waitFor();
    await order.getByText(/^(29:\d\d|30:00) left to pay$/).waitFor();
    await page.getByText('9 of 10 left').waitFor();
    expect(await order.getByRole('link', { name: 'Workflow' }).getAttribute('href')).toMatch(
      new RegExp(`^${TEMPORAL_UI_URL}/namespaces/default/workflows/s[0-9a-z]{26}-0-1-[0-9A-Z]{26}$`),
    );

    const opened = context.waitForEvent('page');
    await order.getByRole('button', { name: 'Pay for 1 × Storm lamp' }).click();
    const provider = await opened;
    await provider.getByText('€49.00').first().waitFor();
    await provider.getByRole('button', { name: /^Pay/ }).click();
    await provider.getByText('You can go back to the shop.').waitFor();
    await provider.close();

    await order.getByText('Paid', { exact: true }).waitFor();
    await expect.poll(() => order.getByRole('button').count()).toBe(0);
    await page.reload();
    await order.getByText('Paid', { exact: true }).waitFor();
    expect(await widthOverflow(page)).toBeLessThanOrEqual(0);
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
    const order = page.getByRole('listitem').filter({ hasText: '2 × Storm lamp' });
    await order.getByRole('button', { name: 'Cancel 2 × Storm lamp' }).click();
    await order.getByText('Cancelled', { exact: true }).waitFor();
    await page.getByText('10 of 10 left').waitFor();
  });
});

test('a refusal is told in plain words', async () => {
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
    const order = page.getByRole('listitem').filter({ hasText: '1 × Storm lamp' });
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

/** The demo page of this sale, in front of the whole service. */
async function onDemoPage(
  size: { width: number },
  sale: Sale,
  use: (page: Page, context: BrowserContext) => Promise<void>,
): Promise<void> {
  await withDemo(sale, (url) =>
    withBrowser(size, async (context) => {
      const page = await context.newPage();
      await page.goto(url);
      await use(page, context);
    }),
  );
}

async function withDemo(sale: Sale, use: (url: string) => Promise<void>): Promise<void> {
  const demo = { saleId: sale.saleId, temporalUiUrl: TEMPORAL_UI_URL };
  const checkout = await openCheckout({ overrides: { demo } });
  try {
    await checkout.stores.openSale(sale);
    await use(checkout.url);
  } finally {
    await checkout.close();
  }
}

function widthOverflow(page: Page): Promise<number> {
  return page.evaluate('document.documentElement.scrollWidth - window.innerWidth');
}
