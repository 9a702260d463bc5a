/** All Lua scripts. The header in a script's file says what its keys, arguments and replies mean. */

import * as orderScripts from './order-scripts.ts';
import * as saleScripts from './sale-scripts.ts';
import { numberOfKeys } from './script-call.ts';

export const SCRIPTS = [...Object.values(orderScripts), ...Object.values(saleScripts)];

/**
 * For the `scripts` option of ioredis, which sends EVALSHA and, where Redis has forgotten a script, EVAL.
 * Without a number of keys it takes the first argument for that.
 */
export const SCRIPT_COMMANDS = Object.fromEntries(
  SCRIPTS.map((script) => {
    const { name, lua } = script;
    const count = numberOfKeys(script);
    return [name, count === undefined ? { lua } : { lua, numberOfKeys: count }];
  }),
);
