/** What a process says to a Redis of another version: the scripts' names, keys, arguments and replies. */

import { documentedReplies, splitScript } from '../lua/header.ts';
import { SCRIPTS } from '../support/scripts.ts';
import { showInput } from './schemas.ts';

export function showScripts() {
  const scripts = SCRIPTS.map((script) => {
    const { name, lua, keys, args, repeated, repeatedKeys, keyList = null } = script;
    const { header } = splitScript(lua);
    const flags = /^#!lua flags=(\S+)/.exec(lua)?.[1] ?? null;
    const replies = documentedReplies(header);
    return [
      name,
      { flags, keys, keyList, repeatedKeys, args, repeated, replies, reply: showInput(script.reply) },
    ];
  });
  return Object.fromEntries(scripts);
}
