/** The system's Chromium, for tests that look at a page the way a shopper does. */

import { chromium, type Browser, type BrowserContext } from 'playwright-core';
import { afterAll, beforeAll } from 'vitest';
import { tool } from '../support/tools.ts';

/** Quiet on the network, and able to run as root in a container. */
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export interface BrowserOptions {
  /** CSS pixels. */
  width: number;
}

/**
 * One Chromium for all tests of a file. Call it outside hooks and tests.
 * @returns gives a fresh profile for as long as the callback runs; what the pages throw fails the test
 */
export function openBrowser() {
  let browser: Browser;
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: tool('chromium'), args: FLAGS });
  });
  afterAll(() => browser.close());

  return async function withBrowser(
    { width }: BrowserOptions,
    use: (context: BrowserContext) => Promise<void>,
  ): Promise<void> {
    const context = await browser.newContext({ viewport: { width, height: 900 }, locale: 'en-GB' });
    const thrown: Error[] = [];
    context.on('weberror', (event) => thrown.push(event.error()));
    try {
      await use(context);
    } finally {
      // A page polls until it is closed: a handler that a test gave it may be at work, for no one.
      await Promise.all(context.pages().map((page) => page.unrouteAll({ behavior: 'ignoreErrors' })));
      await context.close();
    }
    if (thrown.length > 0) throw new AggregateError(thrown, 'the page threw');
  };
}
