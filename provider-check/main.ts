/** `npm run provider-check`: holds a shop's own payment provider to the contract. */

import { providerCheck } from './command.ts';

process.exitCode = await providerCheck(process.argv.slice(2), process.env, (line) => console.log(line));
