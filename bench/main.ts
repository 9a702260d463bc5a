/** `npm run bench -- <rush|burst|overload|money>`: one measurement on servers of its own. */

import { burst } from './burst.ts';
import { withBenchCheckout } from './checkout.ts';
import { money } from './money.ts';
import { overload } from './overload.ts';
import { rush } from './rush.ts';

const BENCHES = { rush, burst, overload, money };

const name = process.argv[2] ?? '';
if (name === 'rush' || name === 'burst' || name === 'overload' || name === 'money') {
  await withBenchCheckout(BENCHES[name]);
} else {
  console.error(`Usage: npm run bench -- <${Object.keys(BENCHES).join('|')}>`);
  process.exitCode = 1;
}
