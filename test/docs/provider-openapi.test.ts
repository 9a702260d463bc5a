/** docs/provider-openapi.json is what the schemas of the provider's messages render. */

import { expect, test } from 'vitest';
import { renderProviderApi } from './provider-openapi.ts';

const page = new URL('../../docs/provider-openapi.json', import.meta.url);

/** After a change of a schema, `npm test -- test/docs/provider-openapi.test.ts -u` writes the page anew. */
test('docs/provider-openapi.json has the messages as Holdfast reads and writes them', async () => {
  await expect(`${JSON.stringify(renderProviderApi(), undefined, 2)}\n`).toMatchFileSnapshot(page.pathname);
});

test('each reference leads to a schema', () => {
  const api = renderProviderApi();
  const references = [...JSON.stringify(api).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)];

  expect(references.length).toBeGreaterThan(10);
  for (const [, name] of references) expect(Object.keys(api.components.schemas)).toContain(name);
});
