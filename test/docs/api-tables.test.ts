/** The tables of docs/api.md are those that the calls and the codes render. */

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { renderTables } from './api-tables.ts';

const page = new URL('../../docs/api.md', import.meta.url);

/** After a change of a call, `npm test -- test/docs/api-tables.test.ts -u` writes the page anew. */
test('docs/api.md has its tables as the calls and the codes render them', async () => {
  await expect(renderTables(readFileSync(page, 'utf8'))).toMatchFileSnapshot(page.pathname);
});
