/** All Lua scripts of the product, wherever they are defined. */

import { join } from 'node:path';
import * as budget from '../../src/redis/budget.ts';
import * as outbox from '../../src/redis/outbox.ts';
import type { Script } from '../../src/redis/script.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { listFiles } from '../house/sources.ts';

type AnyScript = Script<string, string, string, unknown>;

const ofNouns: object[] = await Promise.all(
  listFiles('src')
    .filter((file) => file.endsWith('.redis.ts'))
    .map((file) => import(join(repoDir, file))),
);

/** In the order of their names. */
export const SCRIPTS = [budget, outbox, ...ofNouns]
  .flatMap((module): unknown[] => Object.values(module))
  .filter(isScript)
  .toSorted((a, b) => (a.name < b.name ? -1 : 1));

function isScript(exported: unknown): exported is AnyScript {
  return typeof exported === 'object' && exported !== null && 'lua' in exported;
}
