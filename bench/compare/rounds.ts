/** Measures the contestants of a part in turn, round after round. */

import assert from 'node:assert/strict';
import type { Column, Contestant, Figures } from './part.ts';

export interface Measurement {
  /** From 1. */
  round: number;
  contestant: string;
  figures: Figures;
  /** How long it took, with its preparation and its check. */
  seconds: number;
}

export interface RoundsWatcher {
  began(step: { round: number; contestant: string }): void;
  ended(measurement: Measurement): void;
}

/** @throws with the contestant and the round when a measurement fails or lacks a figure */
export async function measureRounds(options: {
  contestants: readonly Contestant[];
  columns: readonly Column[];
  rounds: number;
  watcher: RoundsWatcher;
}): Promise<Measurement[]> {
  const { contestants, columns, rounds, watcher } = options;
  const measurements: Measurement[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    for (const { name, role, measure } of orderOf(contestants, round, rounds)) {
      watcher.began({ round, contestant: name });
      const startedMs = performance.now();
      const figures = await measure().catch((error: unknown) => {
        throw new Error(`${name}, round ${round}`, { cause: error });
      });
      for (const { key, isOfOurs } of columns) {
        if (isOfOurs && role !== 'ours') continue;
        assert(Number.isFinite(figures[key]), `${name}, round ${round}, gives the figure "${key}"`);
      }
      const seconds = (performance.now() - startedMs) / 1_000;
      const measurement = { round, contestant: name, figures, seconds };
      measurements.push(measurement);
      watcher.ended(measurement);
    }
  }
  return measurements;
}

/** Each round begins with another one, far from the last beginning: neither first nor last place is fixed. */
export function orderOf<T>(contestants: readonly T[], round: number, rounds: number): T[] {
  const stride = Math.max(1, Math.floor(contestants.length / rounds));
  const first = ((round - 1) * stride) % contestants.length;
  return [...contestants.slice(first), ...contestants.slice(0, first)];
}
