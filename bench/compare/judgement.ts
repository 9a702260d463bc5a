/** What the measurements of a part say: the medians of each contestant, and whether each target is met. */

import type { Figures, Target } from './part.ts';
import type { Measurement } from './rounds.ts';

/** Medians by contestant. */
export type Medians = ReadonlyMap<string, Figures>;

export interface Judgement {
  text: string;
  /** The ratio, or the figure itself; null when a contestant that it needs was not measured. */
  value: number | null;
  /** Which contestant it was compared with: the best of those that the target names. */
  against: string | null;
  /** As in "≥ 0.75". */
  goal: string;
  verdict: 'met' | 'not met' | 'not measured';
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const [low, high] = [
    sorted[Math.floor((sorted.length - 1) / 2)],
    sorted[Math.ceil((sorted.length - 1) / 2)],
  ];
  return low === undefined || high === undefined ? Number.NaN : (low + high) / 2;
}

/** In the order in which the contestants were first measured. */
export function mediansOf(measurements: readonly Measurement[]): Medians {
  const contestants = [...new Set(measurements.map(({ contestant }) => contestant))];
  return new Map(
    contestants.map((contestant) => {
      const all = measurements.filter((each) => each.contestant === contestant).map(({ figures }) => figures);
      const keys = Object.keys(all[0] ?? {});
      return [
        contestant,
        Object.fromEntries(keys.map((key) => [key, median(all.map((each) => each[key] ?? NaN))])),
      ];
    }),
  );
}

export function judge(target: Target, medians: Medians): Judgement {
  const { text, atLeast, atMost } = target;
  const goal = [
    ...(atLeast === undefined ? [] : [`≥ ${atLeast}`]),
    ...(atMost === undefined ? [] : [`≤ ${atMost}`]),
  ].join(' and ');
  const compared = compare(target, medians);
  if (compared === undefined) return { text, value: null, against: null, goal, verdict: 'not measured' };
  const isMet = compared.value >= (atLeast ?? -Infinity) && compared.value <= (atMost ?? Infinity);
  return { text, ...compared, goal, verdict: isMet ? 'met' : 'not met' };
}

function compare(
  { figure, of, against, atLeast }: Target,
  medians: Medians,
): { value: number; against: string | null } | undefined {
  const own = medians.get(of)?.[figure];
  if (own === undefined) return undefined;
  if (against === undefined) return { value: own, against: null };
  // More is better where a least is asked for. One that is missing may have been the best of them.
  const sign = atLeast === undefined ? 1 : -1;
  const others = against.map((name) => ({ name, value: medians.get(name)?.[figure] ?? NaN }));
  if (others.some(({ value }) => Number.isNaN(value))) return undefined;
  const best = others.toSorted((a, b) => sign * (a.value - b.value))[0];
  return best && { value: own / best.value, against: best.name };
}
