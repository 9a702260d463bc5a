/** The heap of a worker holds little more than what is used, however much garbage it makes. */

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { z } from 'zod';

/** As it is built: the process knows no TypeScript. */
const MODULE = new URL('../../dist/src/workers/heap-growth.js', import.meta.url).href;

/**
 * As pages of orders and cached workflows do: what is used for a while becomes garbage after V8 has taken it
 * for old. Prints the bytes of that space that are in use at the end, and the most that it has held.
 */
const CHURN = `
  import { getHeapSpaceStatistics } from 'node:v8';
  import { boundHeapGrowth } from '${MODULE}';
  boundHeapGrowth();
  const old = () => getHeapSpaceStatistics().find((space) => space.space_name === 'old_space').space_used_size;
  const objects = (count) => Array.from({ length: count }, (_, i) => ({ i, text: 'order ' + i }));
  const kept = objects(500_000);
  const pages = [];
  let most = 0;
  for (let i = 0; i < 1_500; i += 1) {
    pages[i % 40] = objects(2_000);
    most = Math.max(most, old());
  }
  gc();
  console.log(JSON.stringify({ most, used: old(), kept: kept.length + pages.length }));
`;

const churned = z.object({ most: z.number(), used: z.number() });

/**
 * On Node 24 the figure says nothing: with the bound and without it, it is 0.9 in some runs and 4 in others.
 * CI runs this file on Node 20 too.
 */
const isTelling = Number(process.versions.node.split('.')[0]) < 22;

test.runIf(isTelling)(
  'garbage that has grown old is collected before the heap holds three times what is used',
  async () => {
    // With its collector in the one thread, what the heap holds depends on no other process.
    const flags = ['--single-threaded', '--expose-gc', '--input-type=module', '-e'];
    const { stdout } = await promisify(execFile)(process.execPath, [...flags, CHURN]);

    const { most, used } = churned.parse(JSON.parse(stdout));
    // Left to itself Node 20 holds four times as much.
    expect(most).toBeLessThan(3 * used);
  },
);
