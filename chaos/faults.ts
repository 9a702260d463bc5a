/** Which faults strike, and in which order: planned beforehand, from the seed alone. */

import { setTimeout as delay } from 'node:timers/promises';
import { dataLosses } from './data-losses.ts';
import type { Span } from './history.ts';
import { LINK_FAULTS } from './links.ts';
import { MEDDLED, meddling } from './meddling.ts';
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

/** Every fourth fault does not come alone. */
const PAIRED_SHARE = 0.25;

export interface PlannedFault {
  /** As the table names it: `kill worker`, `cut api → redis`. */
  name: string;
  /** The process, the wire, or what else it strikes: no two faults strike the same at once. */
  strikes: string;
  lastsMs: number;
  /**
   * Strikes, lasts, heals.
   * @param lost is called where Redis has lost data, with the time that the stroke took
   */
  run(lost: (span: Span) => void): Promise<void>;
}

export interface FaultPlan {
  saleId: string;
  count: number;
  /** Faults alone whose name contains one of these, separated by commas; all where it is empty. */
  only: string;
}

/**
 * Round after round, in the seed's order: every process killed and frozen, every wire cut, slowed,
 * half-opened and reset, data lost in every way, workflows meddled with in every way. The kinds come in turn,
 * so that even a short run has killed each process and lost data in each way.
 */
export function planFaults(
  system: System,
  random: Random,
  { saleId, count, only }: FaultPlan,
): PlannedFault[] {
  const planned: PlannedFault[] = [];
  while (planned.length < count) {
    const kinds = [
      random.shuffle(meddling(system, saleId, random)),
      [...killsInTurn(system, random), ...random.shuffle(freezes(system, random))],
      random.shuffle(dataLosses(system, random)),
      random.shuffle(wireFaults(system, random)),
    ].map((faults) => faults.filter(({ name }) => only.split(',').some((part) => name.includes(part))));
    const longest = Math.max(...kinds.map((faults) => faults.length));
    if (longest === 0) throw new Error(`no fault is called ${only}`);
    for (let i = 0; i < longest; i += 1) planned.push(...kinds.flatMap((faults) => faults.slice(i, i + 1)));
  }
  return planned.slice(0, count);
}

/**
 * The next faults, which strike together: now and then there are two. Meddling is
 * over at once, so that it always comes with what follows it.
 */
export function takeFaults(planned: PlannedFault[], random: Random): PlannedFault[] {
  const [first, second] = planned;
  const isPaired = random.next() < PAIRED_SHARE || first?.strikes === MEDDLED;
  return planned.splice(0, isPaired && first?.strikes !== second?.strikes ? 2 : 1);
}

/** Losses of data kill Redis and Temporal as well, so these come last. */
function killsInTurn(system: System, random: Random): PlannedFault[] {
  const isKilledByLosses = ({ strikes }: PlannedFault) => strikes === 'redis' || strikes === 'temporal';
  const all = random.shuffle(kills(system, random));
  return [...all.filter((fault) => !isKilledByLosses(fault)), ...all.filter(isKilledByLosses)];
}

function kills({ parts }: System, random: Random): PlannedFault[] {
  return parts.map((part) => {
    const lastsMs = random.int(LASTS_MS.kill.min, LASTS_MS.kill.max);
    return {
      name: `kill ${roleOf(part.name)}`,
      strikes: part.name,
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
      strikes: part.name,
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
        strikes: link.address,
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
