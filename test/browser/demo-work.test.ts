/** The demo page of a sale that asks for work: altcha's widget solves the challenge in a real browser. */

import type { BrowserContext, Page, Request } from 'playwright-core';
import { beforeAll, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { saleKeys } from '../../src/redis/keys.ts';
import type { Sale } from '../../src/sales/sale.ts';
import { openApi, type TestApi } from '../api/open-api.ts';
import { buildSale } from '../support/factories.ts';
import { buildDemo } from '../support/http-app.ts';
import { openBrowser } from './browser.ts';

const WIDE = { width: 1280 };
const NARROW = { width: 390 };
const MINUTE_MS = 60_000;
/** Some hundredths of a second. */
const LITTLE_WORK = { kind: 'proof_of_work', costKib: 64, aheadMs: 10 * MINUTE_MS } as const;

const challengeSchema = z.looseObject({ parameters: z.looseObject({ keyPrefix: z.string() }) });

const withBrowser = openBrowser();
let api: TestApi;
beforeAll(async () => {
  api = await openApi();
});

test.each([WIDE, NARROW])(
  'the device works, and the order is accepted, on a page $width pixels wide, from this API alone',
  async (size) => {
    await onDemoPage(size, { verification: LITTLE_WORK }, async (page, seen) => {
      await page.getByText('Before each purchase your device works for some seconds.').waitFor();
      await buyButton(page, 'Storm lamp').click();
      await boughtOf(page, '1 × Storm lamp').waitFor();
      expect(pathsOf(seen)).toEqual(expect.arrayContaining(['/demo/altcha.js', '/demo/scrypt.js']));
      expect(await page.locator('altcha-widget').count()).toBe(0);
      expect(await widthOverflow(page)).toBeLessThanOrEqual(0);
    });
  },
);

test('a refused purchase leaves its ticket for the next one, and a copy of that ticket buys nothing', async () => {
  await onDemoPage(WIDE, { verification: LITTLE_WORK }, async (page, seen, { context }) => {
    const lamp = page.getByRole('article').filter({ hasText: 'Storm lamp' });
    await lamp.getByLabel('Quantity').selectOption('2');
    await buyButton(page, 'Storm lamp').click();
    await boughtOf(page, '2 × Storm lamp').waitFor();
    await buyButton(page, 'Storm lamp').click();
    await lamp.getByText('At most 2 per person; you have 2.').waitFor();
    expect(challengesOf(seen)).toBe(2);

    // A window has what its opener's tab has, the ticket too.
    const [copy] = await Promise.all([context.waitForEvent('page'), page.evaluate('void open("/")')]);
    await buyButton(page, 'Enamel mug').click();
    await boughtOf(page, '1 × Enamel mug').waitFor();
    expect(challengesOf(seen)).toBe(2);

    await buyButton(copy, 'Enamel mug').click();
    await copy.getByText('The ticket for this purchase has bought an order before.').waitFor();
    await buyButton(copy, 'Enamel mug').click();
    await boughtOf(copy, '1 × Enamel mug').waitFor();
    expect(challengesOf(seen)).toBe(3);
  });
});

test('before a sale opens the device works ahead, and the purchase at the opening needs no more', async () => {
  const rules = { verification: LITTLE_WORK, opensAtMs: Date.now() + 5 * MINUTE_MS };
  await onDemoPage(NARROW, rules, async (page, seen, { saleId }) => {
    await page.getByText('then your device has done its work when it opens.').waitFor();
    await buyButton(page, 'Storm lamp').click();
    await page.getByText('The work that was done counts for your next purchase.').waitFor();
    await api.stores.redis.hset(saleKeys({ saleId, shard: 0 }).sale, 'opens_at', Date.now());
    await buyButton(page, 'Storm lamp').click();
    await boughtOf(page, '1 × Storm lamp').waitFor();
    expect(challengesOf(seen)).toBe(1);
  });
});

test('while the device works the button says so, and the shopper can call it off', async () => {
  await onDemoPage(NARROW, { verification: LITTLE_WORK }, async (page) => {
    // No try solves it.
    await page.route('**/challenge', async (route) => {
      const response = await route.fetch();
      const { parameters, ...rest } = challengeSchema.parse(await response.json());
      const json = { ...rest, parameters: { ...parameters, keyPrefix: 'ff'.repeat(32) } };
      await route.fulfill({ response, json });
    });
    const isAtWork = page.waitForEvent('worker');
    await buyButton(page, 'Storm lamp').click();
    await isAtWork;
    await page.getByRole('button', { name: 'Working…: Storm lamp', disabled: true }).waitFor();
    await page
      .getByRole('status')
      .getByText('Your device works for some seconds.', { exact: true })
      .waitFor();
    const cancel = page.getByRole('button', { name: 'Cancel the purchase: Storm lamp' });
    await cancel.focus();
    await page.keyboard.press('Enter');

    await page.getByText('You cancelled. Nothing was bought.').waitFor();
    await expect.poll(() => page.workers().length).toBe(0);
    expect(await cancel.count()).toBe(0);
    expect(await page.locator('button:focus').getAttribute('aria-label')).toBe('Buy: Storm lamp');
    expect(await page.getByLabel('Quantity').first().isVisible()).toBe(true);
  });
});

test('a challenge that expired while the device worked is replaced by another', async () => {
  await onDemoPage(WIDE, { verification: LITTLE_WORK }, async (page) => {
    const answers: number[] = [];
    await page.route('**/ticket', async (route) => {
      // The API's clock, for this call.
      if (answers.length === 0) vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 6 * MINUTE_MS });
      const response = await route.fetch();
      vi.useRealTimers();
      answers.push(response.status());
      await route.fulfill({ response });
    });
    await buyButton(page, 'Storm lamp').click();
    await boughtOf(page, '1 × Storm lamp').waitFor();
    expect(answers).toEqual([403, 200]);
  });
});

test.each([-10, 10])('a device whose clock is %s minutes off works as any other', async (minutes) => {
  await onDemoPage(WIDE, { verification: LITTLE_WORK }, async (page, seen) => {
    await page.addInitScript(`{ const { now } = Date; Date.now = () => now() + ${minutes * MINUTE_MS}; }`);
    await page.reload();
    await buyButton(page, 'Storm lamp').click();
    await boughtOf(page, '1 × Storm lamp').waitFor();
    expect(challengesOf(seen)).toBe(1);
  });
});

test('a browser that cannot do the work says so, and nothing is bought', async () => {
  await onDemoPage(NARROW, { verification: LITTLE_WORK }, async (page, seen) => {
    await page.route('**/demo/scrypt.js', (route) => route.fulfill({ status: 404 }));
    await buyButton(page, 'Storm lamp').click();
    await page.getByText('Your browser could not do the work. Nothing was bought.').waitFor();
    expect(pathsOf(seen)).not.toContain('/v1/orders');
    // What is said of it on the console is not the page's doing.
    seen.said.length = 0;
  });
});

test('at an address by which browsers do no work the page says which ones there are', async () => {
  await onDemoPage(WIDE, { verification: LITTLE_WORK }, async (page, seen) => {
    await page.addInitScript('Object.defineProperty(globalThis, "isSecureContext", { value: false })');
    await page.reload();
    await buyButton(page, 'Storm lamp').click();
    await page.getByText('Browsers do the work at an https address alone').waitFor();
    seen.said.length = 0;
  });
});

interface Seen {
  requests: Request[];
  /** Errors and warnings: a browser says there what the policy of the page forbids. */
  said: string[];
}

const pathsOf = ({ requests }: Seen): string[] => requests.map((request) => new URL(request.url()).pathname);
const challengesOf = (seen: Seen) => pathsOf(seen).filter((path) => path.endsWith('/challenge')).length;
const buyButton = (page: Page, name: string) => page.getByRole('button', { name: `Buy: ${name}` });
const boughtOf = (page: Page, items: string) =>
  page.getByRole('listitem').filter({ hasText: items }).getByText('Accepted', { exact: true });

function widthOverflow(page: Page): Promise<number> {
  return page.evaluate('document.documentElement.scrollWidth - window.innerWidth');
}

/** The demo page of a sale by these rules, on an API without a worker. It asks nothing of another host. */
async function onDemoPage(
  size: { width: number },
  rules: Partial<Sale>,
  use: (page: Page, seen: Seen, about: { saleId: string; context: BrowserContext }) => Promise<void>,
): Promise<void> {
  const { saleId } = await api.stores.openSale(buildSale(rules));
  const app = await api.withParts({ demo: buildDemo(saleId) });
  try {
    await withBrowser(size, async (context) => {
      const seen: Seen = { requests: [], said: [] };
      context.on('request', (request) => seen.requests.push(request));
      context.on('console', (message) => {
        const text = message.text();
        const isOfAnAnswer = text.startsWith('Failed to load resource');
        if (['error', 'warning'].includes(message.type()) && !isOfAnAnswer) seen.said.push(text);
      });
      const page = await context.newPage();
      await page.goto(app.url);
      await use(page, seen, { saleId, context });
      const foreign = seen.requests.map((request) => request.url()).filter((url) => !isOwn(url, app.url));
      expect({ foreign, said: seen.said }).toEqual({ foreign: [], said: [] });
    });
  } finally {
    await app.close();
  }
}

function isOwn(url: string, apiUrl: string): boolean {
  return url.startsWith(`${apiUrl}/`) || url.startsWith('data:');
}
