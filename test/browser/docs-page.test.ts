/** /docs in a real browser: it shows the calls, and the browser asks nothing of another host. */

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { openApi, type TestApi } from '../api/open-api.ts';
import { openBrowser } from './browser.ts';

const withBrowser = openBrowser();
let api: TestApi;
beforeAll(async () => {
  api = await openApi();
});

test.each([{ width: 1280 }, { width: 390 }])(
  'the calls are read on a page $width pixels wide, from this API alone',
  async (size) => {
    await withBrowser(size, async (context) => {
      const foreign: string[] = [];
      const said: string[] = [];
      const page = await context.newPage();
      page.on('request', (request) => {
        const url = request.url();
        if (!url.startsWith(`${api.url}/`) && !/^(data|blob):/.test(url)) foreign.push(url);
      });
      // A browser says there what the policy of the page forbids.
      page.on('console', (message) => {
        if (message.type() === 'error' || message.type() === 'warning') said.push(message.text());
      });
      await page.goto(`${api.url}/docs`);
      await page.getByRole('heading', { name: 'Holdfast' }).first().waitFor();
      await page
        .getByText(/Calls of shoppers, by a token/)
        .first()
        .waitFor();
      await page
        .getByText(/^\/v1\/orders$/)
        .first()
        .waitFor();

      expect({ foreign, said }).toEqual({ foreign: [], said: [] });
      expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0);
    });
  },
);

test('the viewer is what its package makes', async () => {
  const script = fileURLToPath(new URL('../../stack/make-viewer.mjs', import.meta.url));
  await promisify(execFile)(process.execPath, [script, '--check']);
});
