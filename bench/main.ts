/**
 * `npm run bench -- <rush|burst|overload|peak|money|herds|watch|two-sales>`: one measurement on servers of
 * its own.
 * `work`: what the work before a purchase costs a device and the API.
 * `npm run bench -- compare`: all designs side by side; with `--check`, which parts are older than the code.
 * `capacity`: what an order costs, and how far more processes help. Both write their pages, as
 * `npm run renew` does from the results that are there.
 */

import { burst } from './burst.ts';
import { capacity } from './capacity/capacity.ts';
import { withBenchCheckout } from './checkout.ts';
import { compare } from './compare/compare.ts';
import { herds } from './herds.ts';
import { money } from './money.ts';
import { overload } from './overload.ts';
import { peak } from './peak.ts';
import { rush } from './rush.ts';
import { USUAL_SETTINGS } from './servers.ts';
import { twoSales } from './two-sales.ts';
import { watch } from './watch.ts';
import { work } from './work.ts';

const BENCHES = {
  rush: () => withBenchCheckout(rush),
  burst: () => withBenchCheckout(burst),
  overload: () => withBenchCheckout(overload),
  peak: () => withBenchCheckout(peak, USUAL_SETTINGS),
  money: () => withBenchCheckout(money),
  herds: () => withBenchCheckout(herds),
  watch: () => withBenchCheckout(watch, USUAL_SETTINGS),
  'two-sales': () => withBenchCheckout(twoSales, USUAL_SETTINGS),
  work,
  async capacity() {
    process.exit(await capacity(process.argv.slice(3)));
  },
  async compare() {
    const exitCode = await compare(process.argv.slice(3));
    // Every part has closed what it opened; a client of a peer keeps a handle that it gives no way to close.
    process.exit(exitCode);
  },
};

const [name, run] = Object.entries(BENCHES).find(([each]) => each === process.argv[2]) ?? [];
if (name !== undefined && run !== undefined) {
  await run();
} else {
  console.error(`Usage: npm run bench -- <${Object.keys(BENCHES).join('|')}>`);
  process.exitCode = 1;
}
