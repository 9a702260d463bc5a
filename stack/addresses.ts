import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { repoDir } from './repo-dir.ts';

/** Where `npm start` keeps everything that is its own: data, logs, addresses. */
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

/** What the running `npm start` of this checkout tells to others, such as `npm run try`. */
export type Addresses = z.infer<typeof addresses>;

export function writeAddresses(value: Addresses): void {
  writeFileSync(file, JSON.stringify(value, undefined, 2));
}

/** Undefined when nothing is running. */
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
