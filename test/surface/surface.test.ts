/** What users rely on stays: the surface as the code has it is that of surface.json. */

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { renderSurface } from './document.ts';

const FILE = fileURLToPath(new URL('surface.json', import.meta.url));

/** After a change that users are meant to see, `npm test -- test/surface -u` writes the file anew. */
test('the surface is that of surface.json', async () => {
  // Vitest would write a file that is missing, and pass.
  expect(existsSync(FILE), `${FILE} is missing`).toBe(true);

  await expect(await renderSurface()).toMatchFileSnapshot(FILE);
});
