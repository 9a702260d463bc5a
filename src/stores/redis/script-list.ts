/** All Lua scripts. The header in a script's file says what its keys, arguments and replies mean. */

import { numberOfKeys } from './script-call.ts';
import * as scripts from './scripts.ts';

export const SCRIPTS = Object.values(scripts).filter((exported) => 'lua' in exported);

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
