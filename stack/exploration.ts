/** What `npm run explore` and the property tests tell each other, by the environment and a file of lines. */

import { z } from 'zod';

/** The names of the variables. */
export const EXPLORE = {
  /** From it every seed is drawn. */
  seed: 'EXPLORE_SEED',
  /** How long each property is tried; ms. */
  sliceMs: 'EXPLORE_SLICE_MS',
  /** Where the property tests write their lines. */
  log: 'EXPLORE_LOG',
} as const;

/** They repeat one case, as a finding names it. */
export const REPEAT = { seed: 'PROPERTY_SEED', path: 'PROPERTY_PATH' } as const;

/** Some cases of one property that were drawn from one seed. */
export const batchLine = z.object({
  title: z.string(),
  cases: z.int(),
  /** The report of the shortest case that breaks the property, and the command that repeats it. */
  found: z.object({ report: z.string(), command: z.string() }).optional(),
});
export type BatchLine = z.infer<typeof batchLine>;
