/** The example shop in a real browser: it sells through Holdfast, over HTTP alone and from another origin. */

import type { Page } from 'playwright-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { closeLater } from '../support/close-later.ts';
import { waitFor } from '../support/wait.ts';
import { openBrowser } from './browser.ts';
import { openShopWorld, type Entry, type ShopWorld } from './shop-world.ts';

const JACKET = 'A 4/2 blue';
const THERMOS = 'TH:1L/green';

const withBrowser = openBrowser();
let world: ShopWorld;
beforeAll(async () => {
  world = await openShopWorld(closeLater);
  await world.runProgram('publish.js');
  await world.startBackOffice();
});

describe.each([
  { width: 1280, shopper: 'jane+shop@example.com' },
  { width: 360, shopper: 'VXNlcjox==/2@example.com' },
])('on a page $width pixels wide', ({ width, shopper }) => {
  test('a shopper buys and pays, and it is sent once, refunded in part and settled', async () => {
    await withBrowser({ width }, async (context) => {
      const page = await context.newPage();
      await page.goto(world.shopUrl);
      await page.getByText('Open now').waitFor();
      await fillBasket(page, shopper);
      const { orderNo, reference } = await payFor(page);
      await orderOf(page, reference).getByText('Paid', { exact: true }).waitFor();

      const sent = await waitFor('the parcel', async () => taskOf(await world.readBook(), orderNo, 'ship'));
      expect(sent).toMatchObject({ reference, userId: shopper });
      expect(sent.parcel).toEqual([
        { sku: JACKET, quantity: 1, shelf: 'C-14' },
        { sku: THERMOS, quantity: 2, shelf: 'A-07' },
      ]);
      // By the feed and by push: whichever came second found it done.
      await waitFor('the second news of it', async () =>
        (await world.backOfficeLog()).includes(`order.paid of ${orderNo} is done already`),
      );

      await world.runProgram('back-office/refund.js', orderNo, THERMOS, '1', `return-${width}`);
      await world.runProgram('back-office/refund.js', orderNo, THERMOS, '1', `return-${width}`);
      await waitFor('the credit', async () => taskOf(await world.readBook(), orderNo, 'credit'));
      await page.reload();
      await orderOf(page, reference).getByText('€29.25 refunded').waitFor();
      await orderOf(page, reference).getByText('Partly refunded').waitFor();
      expect(await widthOverflow(page)).toBeLessThanOrEqual(0);

      const book = await world.readBook();
      expect(book.filter((entry) => entry.orderNo === orderNo && entry.task === 'ship')).toHaveLength(1);
      expect(new Set(book.map(({ eventId }) => eventId)).size).toBe(book.length);
      expect(await world.runProgram('back-office/settlement.js')).toContain(describeTakings(book));
    });
  });
});

test('a back office that was killed sends what was paid meanwhile, and nothing twice', async () => {
  await withBrowser({ width: 1280 }, async (context) => {
    const page = await context.newPage();
    await page.goto(world.shopUrl);
    await fillBasket(page, 'jane+gift@example.com');
    const before = await payFor(page);
    await waitFor('the first parcel', async () => taskOf(await world.readBook(), before.orderNo, 'ship'));
    await world.killBackOffice();
    await fillBasket(page);
    const meanwhile = await payFor(page);
    await world.startBackOffice();
    await waitFor('the parcel', async () => taskOf(await world.readBook(), meanwhile.orderNo, 'ship'));
    const sent = (await world.readBook()).filter(({ task }) => task === 'ship').map(({ orderNo }) => orderNo);
    expect(new Set(sent).size).toBe(sent.length);
    expect(sent).toEqual(expect.arrayContaining([before.orderNo, meanwhile.orderNo]));
  });
});

/**
 * A jacket and two thermoses: 194.00, which is sent free of charge; 174.60 with the discount.
 * @param shopper who signs in; the one who has, unless given
 */
async function fillBasket(page: Page, shopper?: string): Promise<void> {
  await page.getByRole('button', { name: 'Add: Rain jacket, blue' }).click();
  await page.getByRole('button', { name: 'Add: Thermos, 1 litre' }).click();
  await page.getByRole('button', { name: 'Add: Thermos, 1 litre' }).click();
  await page.getByText('2 × Thermos, 1 litre', { exact: true }).waitFor();
  if (shopper !== undefined) await page.getByLabel('E-mail address').fill(shopper);
  await page.getByLabel('Discount code').fill('FROST10');
  await page.getByRole('button', { name: 'Check out' }).click();
  await page.getByText('-€19.40').waitFor();
}

async function payFor(page: Page): Promise<{ orderNo: string; reference: string }> {
  await page.getByRole('button', { name: 'Order and pay €174.60' }).click();
  await page.getByRole('button', { name: 'Pay €174.60', exact: true }).click();
  await page.getByText('The shop is notified of your payment.').waitFor();
  await page.getByRole('link', { name: 'Back to the shop' }).click();
  const orderNo = new URL(page.url()).searchParams.get('orderNo') ?? '';
  // The newest is the first.
  const heading = await page
    .getByRole('heading', { name: /^Order F-/ })
    .first()
    .textContent();
  return { orderNo, reference: heading?.replace('Order ', '') ?? '' };
}

function orderOf(page: Page, reference: string) {
  return page.getByRole('listitem').filter({ hasText: reference });
}

function taskOf(book: readonly Entry[], orderNo: string, task: string): Entry | undefined {
  return book.find((entry) => entry.orderNo === orderNo && entry.task === task);
}

/** As the settlement has to show it, of what the back office sent and credited. */
function describeTakings(book: readonly Entry[]): string {
  const sent = book.filter(({ task }) => task === 'ship');
  const paid = sent.reduce((total, entry) => total + (entry.paid ?? 0), 0);
  const refunded = book.reduce((total, entry) => total + (entry.refunded ?? 0), 0);
  const [was, went, kept] = [paid, refunded, paid - refunded].map((cents) => (cents / 100).toFixed(2));
  return `paid ${was}, refunded ${went}, kept ${kept} EUR`;
}

function widthOverflow(page: Page): Promise<number> {
  return page.evaluate('document.documentElement.scrollWidth - window.innerWidth');
}
