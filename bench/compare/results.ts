/** The file of all results: every single measurement, with the machine and the versions it was taken on. */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import { judge, mediansOf, type Judgement } from './judgement.ts';
import type { Part, Target } from './part.ts';
import type { Measurement } from './rounds.ts';

const targetSchema = z.object({
  text: z.string(),
  figure: z.string(),
  of: z.string(),
  against: z.array(z.string()).optional(),
  atLeast: z.number().optional(),
  atMost: z.number().optional(),
});

const environmentSchema = z.object({
  /** The commit that was measured; "with changes" when files differed from it. */
  commit: z.string(),
  machine: z.object({
    cpu: z.string(),
    cores: z.int(),
    memoryGb: z.number(),
    os: z.string(),
  }),
  /** Of Node, of servers and of npm packages. */
  versions: z.record(z.string(), z.string()),
});
export type Environment = z.infer<typeof environmentSchema>;

const partResultSchema = environmentSchema.extend({
  name: z.string(),
  title: z.string(),
  about: z.string(),
  /** A bound that users have and that the measurement lifted, as a sentence. */
  lifted: z.string().optional(),
  columns: z.array(z.object({ key: z.string(), label: z.string(), unit: z.string(), digits: z.int() })),
  charted: z.string(),
  targets: z.array(targetSchema),
  contestants: z.array(
    z.object({ name: z.string(), role: z.enum(['ours', 'limit', 'reference', 'peer', 'variant']) }),
  ),
  notes: z.array(z.string()),
  rounds: z.int(),
  /** When the last round ended. */
  measuredAt: z.iso.datetime(),
  /** In the order in which they were taken. */
  measurements: z.array(
    z.object({
      round: z.int(),
      contestant: z.string(),
      figures: z.record(z.string(), z.number()),
      seconds: z.number(),
    }),
  ),
});
export type PartResult = z.infer<typeof partResultSchema>;

const resultsSchema = z.object({ parts: z.array(partResultSchema) });
export type Results = z.infer<typeof resultsSchema>;

export function judgementsOf(part: PartResult): Judgement[] {
  const medians = mediansOf(part.measurements);
  return part.targets.map((target) => judge(toTarget(target), medians));
}

/** Zod marks what may be absent as possibly undefined. */
function toTarget({ against, atLeast, atMost, ...rest }: PartResult['targets'][number]): Target {
  return {
    ...rest,
    ...(against === undefined ? {} : { against }),
    ...(atLeast === undefined ? {} : { atLeast }),
    ...(atMost === undefined ? {} : { atMost }),
  };
}

/** Where a figure of it stands apart from the part's own text. */
export function markLifted({ lifted }: PartResult, text: string): string {
  return lifted === undefined ? text : `${text}\\*`;
}

/** Enough for any figure, and short enough to read. */
const KEPT_DIGITS = 3;

export function readResults(file: string): Results {
  return existsSync(file) ? resultsSchema.parse(JSON.parse(readFileSync(file, 'utf8'))) : { parts: [] };
}

export function writeResults(file: string, results: Results): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(results, undefined, 2)}\n`);
}

/** The parts measured now replace their earlier results; the others stay; all in the order of `names`. */
export function mergeResults(
  earlier: Results,
  measured: readonly PartResult[],
  names: readonly string[],
): Results {
  const latest = new Map([...earlier.parts, ...measured].map((part) => [part.name, part]));
  return { parts: names.flatMap((name) => latest.get(name) ?? []) };
}

export function toPartResult(options: {
  part: Part;
  contestants: PartResult['contestants'];
  measurements: readonly Measurement[];
  notes: readonly string[];
  lifted: string | undefined;
  rounds: number;
  environment: Environment;
}): PartResult {
  const { part, contestants, measurements, notes, lifted, rounds, environment } = options;
  const { name, title, about, columns, charted, targets } = part;
  return partResultSchema.parse({
    name,
    title,
    about,
    ...(lifted === undefined ? {} : { lifted }),
    ...environment,
    measuredAt: new Date().toISOString(),
    rounds,
    columns,
    charted,
    targets,
    contestants: contestants.map(({ name: contestant, role }) => ({ name: contestant, role })),
    notes,
    measurements: measurements.map(({ figures, seconds, ...each }) => ({
      ...each,
      figures: Object.fromEntries(Object.entries(figures).map(([key, value]) => [key, round(value)])),
      seconds: round(seconds),
    })),
  });
}

function round(value: number): number {
  return Number(value.toFixed(KEPT_DIGITS));
}
