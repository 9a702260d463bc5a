/** docs/configuration.md is what the schemas of the settings render. */

import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { settings } from '../../src/config.ts';
import { renderSettings } from './settings-table.ts';

const page = new URL('../../docs/configuration.md', import.meta.url);
const BEGIN = '<!-- settings: rendered from the schema -->';
const END = '<!-- settings: end -->';

/** After a change of a schema, `npm test -- test/docs/configuration.test.ts -u` writes the tables anew. */
test('docs/configuration.md has the settings as the processes parse them', async () => {
  const text = await readFile(page, 'utf8');
  const [before, rest] = text.split(BEGIN);
  const after = rest?.split(END)[1];

  const expected = `${before}${BEGIN}\n\n${renderSettings()}\n\n${END}${after}`;

  await expect(expected).toMatchFileSnapshot(page.pathname);
});

test('the tables have every setting, and say by which processes it is read', () => {
  const rendered = renderSettings();

  expect(Object.keys(settings)).toEqual(['api', 'worker', 'prepare', 'audit', 'ops']);
  expect(rendered).toMatch(/^\| `REDIS_URL` +\| all +\| one or more, .*`rediss:\/\/` .*\*\*required\*\*/m);
  expect(rendered).toMatch(
    /^\| `ENGINE_BUDGET` +\| api, worker, ops +\| whole number, 1 to 10000 +\| `40` /m,
  );
  expect(rendered).toMatch(/^\| `PAYMENT_RETURN_URL` +\| api, worker, audit, ops .*required with `stripe`/m);
  expect(rendered).toMatch(/^\| `SANDBOX_API_KEY` +\| text, at least 16 characters +\| \*\*required\*\*/m);
});
