/** The environment of each process. */

import { sandboxSchema } from '../../sandbox/config.ts';
import { settings } from '../../src/config.ts';
import { showInput } from './schemas.ts';

export function showSettings() {
  const shown = Object.entries({ ...settings, sandbox: sandboxSchema }).map(([name, schema]) => [
    name,
    showInput(schema),
  ]);
  return Object.fromEntries(shown);
}
