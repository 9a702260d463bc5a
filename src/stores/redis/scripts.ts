/** The Lua scripts as typed ioredis commands; their replies are documented in each script's header. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { ClientContext, Result } from 'ioredis';

declare module 'ioredis' {
  interface RedisCommander<Context extends ClientContext = { type: 'default' }> {
    reserve(...keysAndArgs: string[]): Result<string[], Context>;
    confirm(...keysAndArgs: string[]): Result<string[], Context>;
    release(...keysAndArgs: string[]): Result<string[], Context>;
    reserveAgain(...keysAndArgs: string[]): Result<string[], Context>;
    giveBack(...keysAndArgs: string[]): Result<string[], Context>;
    restock(...keysAndArgs: string[]): Result<string[], Context>;
    project(...keysAndArgs: string[]): Result<string[], Context>;
    admit(...keysAndArgs: string[]): Result<string[], Context>;
  }
}

const require = createRequire(import.meta.url);

function script(name: string, numberOfKeys: number) {
  return { lua: readFileSync(require.resolve(`#lua/${name}.lua`), 'utf8'), numberOfKeys };
}

/** For the `scripts` option of ioredis, which sends EVALSHA and, where Redis has forgotten a script, EVAL. */
export const SCRIPTS = {
  reserve: script('reserve', 8),
  confirm: script('confirm', 3),
  release: script('release', 4),
  reserveAgain: script('reserve-again', 8),
  giveBack: script('give-back', 4),
  restock: script('restock', 2),
  project: script('project', 1),
  admit: script('admit', 1),
};
