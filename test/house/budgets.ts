/**
 * The budgets of the house: how large the product was before it was drawn anew, how large it may be in the
 * end, and how large it is now. It may shrink and not grow.
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { z } from 'zod';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { readText } from './sources.ts';

const FILE = 'test/house/budgets.json';
const budgets = z.record(
  z.string(),
  z.strictObject({
    before: z.int(),
    atMost: z.int(),
    now: z.int(),
    /** Why it is more than before. */
    because: z.string().optional(),
  }),
);

/** With `RENEW_BUDGETS=1` what has shrunk is written down. */
export const isRenewing = process.env['RENEW_BUDGETS'] === '1';

export function readBudgets(): z.infer<typeof budgets> {
  return budgets.parse(JSON.parse(readText(FILE)));
}

/** Fails where a figure has grown. When renewing, writes those that have shrunk. */
export function holdBudgets(measured: Readonly<Record<string, number>>): void {
  const held = readBudgets();
  const grown = Object.entries(measured).flatMap(([name, count]) => {
    const now = held[name]?.now;
    return now !== undefined && count <= now ? [] : [`${name}: ${count}, where ${now} are held`];
  });
  expect(grown).toEqual([]);
  if (!isRenewing) return;
  const renewed = Object.entries(held).map(([name, budget]) => [
    name,
    { ...budget, now: measured[name] ?? budget.now },
  ]);
  writeText(FILE, `${JSON.stringify(Object.fromEntries(renewed), null, 2)}\n`);
}

export function writeText(file: string, text: string): void {
  writeFileSync(join(repoDir, file), text);
}
