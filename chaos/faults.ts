/** Which faults strike, and in which order: planned beforehand, from the seed alone. */

import { setTimeout as delay } from 'node:timers/promises';
import { LINK_FAULTS } from './links.ts';
import type { Random } from './random.ts';
import type { System } from './system.ts';

/**
 * How long each fault lasts; beyond the product's own time
 * limits (2 s for Redis, 8 s for MySQL) now and then.
 */
const LASTS_MS = {
  kill: { min: 0, max: 2_500 },
  freeze: { min: 1_000, max: 6_000 },
  cut: { min: 500, max: 5_000 },
  slow: { min: 2_000, max: 5_000 },
  'half-open': { min: 2_000, max: 10_000 },
  reset: { min: 500, max: 4_000 },
};

export interface PlannedFault {
  /** As the table names it: `kill worker`, `cut api → redis`. */
  name: string;
  lastsMs: number;
  /** Strikes, lasts, heals. */
  run(): Promise<void>;
}

/**
 * Round after round, in the seed's order: every process killed and frozen, every wire cut, slowed,
 * half-opened and reset. Processes come in turn with wires, so that even a short run has killed each process.
 */
export function planFaults(system: System, random: Random, count: number): PlannedFault[] {
  const planned: PlannedFault[] = [];
  while (planned.length < count) {
    const processes = [...random.shuffle(kills(system, random)), ...random.shuffle(freezes(system, random))];
    const wires = random.shuffle(wireFaults(system, random));
    const longest = Math.max(processes.length, wires.length);
    for (let i = 0; i < longest; i += 1) planned.push(...processes.slice(i, i + 1), ...wires.slice(i, i + 1));
  }
  return planned.slice(0, count);
}

function kills({ parts }: System, random: Random): PlannedFault[] {
  return parts.map((part) => {
    const lastsMs = random.int(LASTS_MS.kill.min, LASTS_MS.kill.max);
    return {
      name: `kill ${roleOf(part.name)}`,
      lastsMs,
      async run() {
        await part.kill();
        await delay(lastsMs);
        await part.start();
      },
    };
  });
}

function freezes({ parts }: System, random: Random): PlannedFault[] {
  return parts.map((part) => {
    const lastsMs = random.int(LASTS_MS.freeze.min, LASTS_MS.freeze.max);
    return {
      name: `freeze ${roleOf(part.name)}`,
      lastsMs,
      async run() {
        part.freeze();
        await delay(lastsMs);
        part.thaw();
      },
    };
  });
}

function wireFaults({ links }: System, random: Random): PlannedFault[] {
  return links.flatMap((link) =>
    LINK_FAULTS.map((fault) => {
      const lastsMs = random.int(LASTS_MS[fault].min, LASTS_MS[fault].max);
      return {
        name: `${fault} ${roleOf(link.from)} → ${roleOf(link.to)}`,
        lastsMs,
        async run() {
          await link.strike(fault);
          await delay(lastsMs);
          await link.mend();
        },
      };
    }),
  );
}

/** `api-1` and `api-2` are the same thing twice. */
function roleOf(name: string): string {
  return name.replace(/-\d+$/, '');
}
