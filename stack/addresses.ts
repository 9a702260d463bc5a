/**
 * Where the parts of a running `npm start` listen: it writes a file, which `npm run try` and `npm run audit`
 * read.
 */

import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { repoDir } from './install/repo-dir.ts';

/** The folder of `npm start`: its data, logs and addresses. */
export const devDataDir = join(repoDir, '.holdfast', 'dev');

const file = join(devDataDir, 'addresses.json');

const addresses = z.object({
  apiUrl: z.string(),
  providerUrl: z.string(),
  temporalUiUrl: z.string().optional(),
  redisUrl: z.string(),
  mysqlUrl: z.string(),
  temporalAddress: z.string(),
  saleId: z.string(),
  /** A shopper's token for the demo sale. */
  token: z.string(),
});

/** What the running `npm start` of this repository's folder writes down for other commands. */
export type Addresses = z.infer<typeof addresses>;

export function writeAddresses(value: Addresses): void {
  writeFileSync(file, JSON.stringify(value, undefined, 2));
}

/** Undefined when no `npm start` is running here. */
export function readAddresses(): Addresses | undefined {
  try {
    return addresses.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

export function removeAddresses(): void {
  rmSync(file, { force: true });
}
