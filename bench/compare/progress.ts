/** Shows how far a comparison is: one live line on a terminal, else a plain line for each measurement. */

import { createLiveLine } from '../live-line.ts';
import type { Measurement } from './rounds.ts';

const REDRAW_EVERY_MS = 250;

export interface Step {
  part: string;
  round: number;
  rounds: number;
  contestant: string;
  /** Of this measurement, and of it with all that follow; undefined when one was never measured yet. */
  expectedSeconds: { step: number; rest: number } | undefined;
}

export interface Progress {
  /** A line that stays, say a step of a preparation. */
  line(text: string): void;
  began(step: Step): void;
  /** @param figures as they stay on the screen */
  ended(figures: string): void;
  /** The live line goes until another step begins. */
  stepFailed(): void;
  stop(): void;
}

export function createProgress(out: NodeJS.WriteStream): Progress {
  const line = createLiveLine(out);
  let [step, stepStartedMs]: [Step | undefined, number] = [undefined, 0];
  const redraw = (): void => {
    if (step !== undefined) line.show(stepText(step, (performance.now() - stepStartedMs) / 1_000));
  };
  const stepFailed = (): void => {
    step = undefined;
    line.clear();
  };
  const timer = line.isLive ? setInterval(redraw, REDRAW_EVERY_MS).unref() : undefined;
  return {
    line: (text) => line.print(`· ${text}`),

    began(begun) {
      [step, stepStartedMs] = [begun, performance.now()];
      if (line.isLive) redraw();
      else line.print(`${begun.part}, round ${begun.round} of ${begun.rounds}: ${begun.contestant}`);
    },

    ended(figures) {
      if (step !== undefined) line.print(`  ${step.contestant} (round ${step.round}): ${figures}`);
      step = undefined;
    },

    stepFailed,

    stop() {
      clearInterval(timer);
      stepFailed();
    },
  };
}

/** As in "accept, round 2 of 3: Holdfast (4 s of about 8 s; about 01:20 left)". */
export function stepText(
  { part, round, rounds, contestant, expectedSeconds }: Step,
  seconds: number,
): string {
  const where = `${part}, round ${round} of ${rounds}: ${contestant}`;
  if (expectedSeconds === undefined) return `${where} (${seconds.toFixed(0)} s)`;
  const left = Math.max(0, Math.round(expectedSeconds.rest - seconds));
  const clock = [Math.floor(left / 60), left % 60].map((each) => String(each).padStart(2, '0')).join(':');
  return `${where} (${seconds.toFixed(0)} s of about ${expectedSeconds.step.toFixed(0)} s; about ${clock} left)`;
}

/**
 * How long the measurements take that are still to come, by those of this run; by those of an earlier run as
 * long as this one has none.
 */
export function expectSeconds(options: {
  contestants: readonly string[];
  rounds: number;
  measured: readonly Measurement[];
  earlier: readonly { contestant: string; seconds: number }[];
}): { secondsOf(contestant: string): number | undefined; rest(): number | undefined } {
  const { contestants, rounds, measured, earlier } = options;
  const secondsOf = (contestant: string): number | undefined => {
    const own = measured.filter((each) => each.contestant === contestant);
    const known = own.length > 0 ? own : earlier.filter((each) => each.contestant === contestant);
    return known.length === 0
      ? undefined
      : known.reduce((sum, { seconds }) => sum + seconds, 0) / known.length;
  };
  return {
    secondsOf,
    rest() {
      const each = contestants.map((contestant) => {
        const done = measured.filter((measurement) => measurement.contestant === contestant).length;
        return (secondsOf(contestant) ?? NaN) * (rounds - done);
      });
      const sum = each.reduce((total, seconds) => total + seconds, 0);
      return Number.isNaN(sum) ? undefined : sum;
    },
  };
}
