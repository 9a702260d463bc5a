/** Renders deploy/redis-rights.txt: the commands that the processes call, and so their account may run. */

import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Redis } from 'ioredis';
import { repoDir } from '../install/repo-dir.ts';

/** What ioredis sends by itself. It asks a cluster for its slots in one of these ways. */
const OF_CONNECTIONS =
  'hello auth ping quit select info client|setname client|id eval evalsha readonly asking ' +
  'cluster|slots cluster|shards cluster|nodes cluster|info';
/** Commands that Redis gives rights for by their subcommands. */
const HAVE_SUBCOMMANDS = ['cluster', 'config', 'xgroup', 'xinfo'];

/** `redis.call('XINFO', 'STREAM'` */
const IN_SCRIPTS = /redis\.p?call\(\s*'(\w+)'(?:,\s*'(\w+)')?/g;
/** `redis.xinfo('STREAM'`, by the names that connections have in the files that touch Redis. */
const IN_CODE =
  /\b(?:redis|multi|blocking|connection|node|cluster|before)\s*\.(\w+?)(?:Stream)?\(\s*(?:'(\w+)')?/g;
/** `multi.incrby(rlKey`: the library that counts attempts has a script of its own, too. */
const IN_LIMITER = /\.(\w+)\(rlKey/g;

const limiter = dirname(createRequire(import.meta.url).resolve('rate-limiter-flexible'));

function readAll(folder: string, isMeant: (path: string) => boolean): string {
  const paths = readdirSync(join(repoDir, folder), { recursive: true, encoding: 'utf8' }).filter(isMeant);
  return paths.map((path) => readFileSync(join(repoDir, folder, path), 'utf8')).join('\n');
}

/** As an access list names them: `hset`, `xinfo|stream`. */
function commandsIn(text: string, pattern: RegExp): string[] {
  const known = new Set(Redis.prototype.getBuiltinCommands());
  return [...text.matchAll(pattern)].flatMap(([, name = '', word = '']) => {
    const command = name.toLowerCase();
    if (!known.has(command)) return [];
    return HAVE_SUBCOMMANDS.includes(command) ? `${command}|${word.toLowerCase()}` : command;
  });
}

/** Each once, in the order of their names. */
export function listCommands(): string[] {
  const scripts = readAll('lua', (path) => path.endsWith('.lua'));
  const code = readAll('src', (path) => path.startsWith('redis/') || path.endsWith('.redis.ts'));
  const ofLimiter = readFileSync(join(limiter, 'lib', 'RateLimiterRedis.js'), 'utf8');
  const all = [
    ...OF_CONNECTIONS.split(' '),
    ...commandsIn(scripts, IN_SCRIPTS),
    ...commandsIn(code, IN_CODE),
    ...commandsIn(ofLimiter, IN_SCRIPTS),
    ...commandsIn(ofLimiter, IN_LIMITER),
  ];
  return [...new Set(all)].toSorted();
}

/** A line for each initial. */
export function renderRedisRights(): string {
  const lines = new Map<string, string>();
  for (const command of listCommands()) {
    const line = lines.get(command.charAt(0));
    lines.set(command.charAt(0), line === undefined ? `+${command}` : `${line} +${command}`);
  }
  return ['resetchannels -@all', ...lines.values(), ''].join('\n');
}
