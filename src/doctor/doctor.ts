/**
 * Says whether a set-up keeps the promise: how stores, Temporal, provider, endpoints, clocks and this process
 * are, each thing a line with its remedy. All are asked at once, and none is waited for longer than the rest.
 */

import { readFile } from 'node:fs/promises';
import { getHeapStatistics } from 'node:v8';
import type { Logger } from 'pino';
import { CLOCK_WRONG_MS, NOTICE_CLOCK_MS, TOOL_WAITS } from '../limits.ts';
import { messageOf } from '../log.ts';
import { inTime, LateError } from '../status/board.ts';
import { findApiClocks, findTokens, TOLERATED, type Finding } from '../status/findings.ts';
import type { Stores } from '../stores/open.ts';
import { busyNote, readLoad } from '../tool.ts';
import { readClock, type Checkup, type ClockReading, type Line } from './line.ts';

/** A server that gives no answer for a third of it is away. The whole takes no longer, whichever hang. */
const EXAMINED_WITHIN_MS = 3 * TOOL_WAITS.answerMs;

/** One server, or this process. */
export interface Patient {
  what: string;
  /** What its silence means. */
  means: string;
  /** How bad that is; bad unless given. */
  silence?: Line['level'];
  examine(): Promise<Checkup>;
}

export interface Diagnosis {
  /** What a 202 means here. */
  promise: string[];
  /** The worst first. */
  lines: Line[];
}

const ORDER: readonly Line['level'][] = ['bad', 'unknown', 'warn', 'ok'];

export async function diagnose(patients: readonly Patient[]): Promise<Diagnosis> {
  const checkups = await Promise.all(
    patients.map(({ what, means, silence = 'bad', examine }) =>
      inTime(
        // So that one that throws at once fails as one that throws later.
        Promise.resolve().then(examine),
        EXAMINED_WITHIN_MS,
      ).catch((error: unknown): Checkup => {
        const found = `${messageOf(error)}${error instanceof LateError ? `.${busyNote()}` : ''}`;
        const remedy = 'Start it, or mend its address and what is in between.';
        return {
          lines: [{ level: silence, what, found, means, remedy }],
        };
      }),
    ),
  );
  const clocks = checkups.flatMap((checkup) => checkup.clocks ?? []);
  const lines = [...checkups.flatMap((checkup) => checkup.lines), ...judgeClocks(clocks)];
  return {
    promise: checkups.flatMap(({ promise }) => promise ?? []),
    lines: lines.toSorted((a, b) => ORDER.indexOf(a.level) - ORDER.indexOf(b.level)),
  };
}

/**
 * What is not as it is to be goes into the log of a process that has started. It never fails, and nothing
 * waits for it.
 * @param signal ends it without a word: what is asked is being closed
 */
export async function warnAtStart(
  patients: readonly Patient[],
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  const { lines } = await diagnose(patients);
  if (signal.aborted) return;
  for (const { level, what, found, means, remedy } of lines) {
    if (level !== 'ok') log.warn({ doctor: level, what, found, means, remedy }, 'set-up');
  }
}

// Who is asked. Each process asks what it relies on.

export function storePatients(
  redis: () => Promise<Pick<Stores, 'redisSetup'>>,
  { mysqlSetup }: Pick<Stores, 'mysqlSetup'>,
): Patient[] {
  return [
    {
      what: 'Redis',
      means: 'While it is away nothing is sold.',
      examine: async () => (await redis()).redisSetup.examine(),
    },
    {
      what: 'MySQL',
      means: 'While it is away orders are accepted and wait, and payment notices are refused and come again.',
      examine: () => mysqlSetup.examine(),
    },
  ];
}

/** By what the worker has noted of them: no endpoint is called. */
export function endpointPatient({ endpoints }: Pick<Stores, 'endpoints'>): Patient {
  return {
    what: 'endpoints',
    means: 'They are in MySQL.',
    examine: async () => ({ lines: judgeEndpoints(await endpoints.list()) }),
  };
}

function judgeEndpoints(endpoints: Awaited<ReturnType<Stores['endpoints']['list']>>): Line[] {
  if (endpoints.length === 0) return [{ level: 'ok', what: 'endpoints', found: 'none is set' }];
  return endpoints.map(({ name, disabledFor, health }): Line => {
    const what = `endpoint ${name}`;
    const waits = `${health.waiting} deliveries wait, ${health.behind} events behind`;
    if (disabledFor !== null)
      return {
        level: 'bad',
        what,
        found: `disabled: ${disabledFor === 'gone' ? 'it answered 410' : 'by an operator'}; ${waits}`,
        means: 'The shop is told nothing there, also not of paid orders.',
        remedy: 'Enable it once it takes events again, or remove it.',
      };
    if (health.isDown)
      return {
        level: 'bad',
        what,
        found: `down: ${health.lastError ?? 'no answer'}; ${waits}`,
        means: 'The shop hears of its orders late.',
        remedy: 'Mend it: it is tried each minute, and gets what waits once it answers.',
      };
    return { level: 'ok', what, found: health.lastSuccessAt === null ? `nothing sent yet; ${waits}` : waits };
  });
}

/** By what the APIs have noted in Redis within the last minutes. */
export function apiPatient(redis: () => Promise<Pick<Stores, 'apiNotes'>>): Patient {
  return {
    what: 'tokens',
    means: 'The APIs note in Redis what became of tokens.',
    silence: 'unknown',
    async examine() {
      const notes = await (await redis()).apiNotes.read();
      const tokens = findTokens(notes);
      const taken = notes.tokens.accepted?.count ?? 0;
      const fine: Line = { level: 'ok', what: 'tokens', found: `${taken} taken within five minutes` };
      const clocks = findApiClocks(notes).map(lineOf('clocks of the APIs'));
      return { lines: [...clocks, ...(tokens.length === 0 ? [fine] : tokens.map(lineOf('tokens')))] };
    },
  };
}

/** What `ops status` calls wrong. */
function lineOf(what: string) {
  return ({ what: found, remedy }: Finding): Line => ({ level: 'bad', what, found, remedy });
}

interface Provider {
  PAYMENT_PROVIDER?: string | undefined;
  PAYMENT_PROVIDER_URL?: string | undefined;
}

/** Where it is not set, as with Stripe. */
const STRIPE_URL = 'https://api.stripe.com/';

/** Any answer will do, also a refusal: nothing is asked of it but that it is there, and its time. */
export function providerPatient({
  PAYMENT_PROVIDER: name = 'sandbox',
  PAYMENT_PROVIDER_URL: given,
}: Provider): Patient {
  const url = given ?? STRIPE_URL;
  return {
    what: 'provider',
    means: 'No payment page opens, and no refund goes out; what was paid is told later.',
    async examine() {
      const beganMs = Date.now();
      const response = await fetch(url, {
        redirect: 'manual',
        signal: AbortSignal.timeout(TOOL_WAITS.answerMs),
      });
      const endedMs = Date.now();
      await response.body?.cancel();
      const line: Line = { level: 'ok', what: 'provider', found: `${name} answers at ${new URL(url).host}` };
      const at = Date.parse(response.headers.get('date') ?? '');
      if (Number.isNaN(at)) return { lines: [line] };
      return { lines: [line], clocks: [readClock('provider', at, { beganMs, endedMs, stepMs: 1_000 })] };
    },
  };
}

// Clocks.

interface ClockBounds {
  /** As far as each can be off before something is judged wrongly. In ms. */
  warn: number;
  bad: number;
  /** What follows where it is off. */
  means: string;
}

const STORE_CLOCK: ClockBounds = {
  warn: 1_000,
  bad: CLOCK_WRONG_MS,
  means: `Sales open and close early or late by it. Beyond ${TOLERATED} tokens are refused.`,
};
const CLOCK_BOUNDS: Readonly<Record<string, ClockBounds>> = {
  provider: {
    warn: 5_000,
    bad: NOTICE_CLOCK_MS,
    means: 'Payment pages close early or late; beyond 5 min its notices are refused.',
  },
  // It counts durations. Its last poll, by which its clock is told, is up to 75 s old.
  Temporal: {
    warn: 60_000,
    bad: 300_000,
    means: 'Orders that MySQL has not taken are given up early or late.',
  },
};

function judgeClocks(readings: readonly ClockReading[]): Line[] {
  return readings.map(({ server, aheadMs, withinMs }): Line => {
    const offMs = Math.max(0, Math.abs(aheadMs) - withinMs);
    const { warn, bad, means } = CLOCK_BOUNDS[server] ?? STORE_CLOCK;
    const direction = aheadMs < 0 ? 'behind' : 'ahead of';
    const what = `clock of ${server}`;
    if (offMs > warn)
      return {
        level: offMs > bad ? 'bad' : 'warn',
        what,
        found: `${seconds(offMs)} s ${direction} this host's`,
        means,
        remedy: 'Let each machine follow the same time server. Where all are off alike, it is this host.',
      };
    if (withinMs > warn)
      return {
        level: 'unknown',
        what,
        found: `could not be measured: the answer took ${seconds(2 * withinMs)} s`,
        means: `It may be off by ${seconds(Math.abs(aheadMs) + withinMs)} s, or be right.`,
        remedy: 'Ask again when this machine and that server are less busy.',
      };
    return {
      level: 'ok',
      what,
      found: `agrees with this host's to within ${seconds(Math.abs(aheadMs) + withinMs)} s`,
    };
  });
}

function seconds(ms: number): string {
  return (ms / 1_000).toFixed(ms < 10_000 ? 1 : 0);
}

// This process.

/**
 * Connections of callers (15,000 for an API), those to the stores, and files. A worker has a few hundred.
 */
const LEAST_FILES = { api: 16_000, worker: 1_024, ops: 1_024 };
/** A worker in a rush takes 430 MB, an API less; half of it again is room. */
const LEAST_HEAP_BYTES = 512 * 2 ** 20;

/** @param limitsFile of Linux; elsewhere the limits are not known */
export function processPatient(name: keyof typeof LEAST_FILES, limitsFile = '/proc/self/limits'): Patient {
  return {
    what: 'this process',
    means: 'Its limits are not known.',
    async examine() {
      const limits = await readFile(limitsFile, 'utf8').catch(() => '');
      const load: Line = { level: 'ok', what: 'this machine', found: readLoad().text };
      return { lines: [judgeFiles(name, limits), judgeHeap(), load] };
    },
  };
}

function judgeFiles(name: keyof typeof LEAST_FILES, limits: string): Line {
  const what = 'open files';
  const least = LEAST_FILES[name];
  const said = /^Max open files\s+(\S+)/m.exec(limits)?.[1];
  const remedy = `Raise the limit to ${LEAST_FILES.api} or more (\`ulimit -n\`, LimitNOFILE, nofile).`;
  const means = `An API takes up to 15,000 connections; beyond the limit it refuses callers and cannot reach its stores.`;
  if (said === undefined) return { level: 'unknown', what, found: 'not said on this system', means, remedy };
  const limit = said === 'unlimited' ? Infinity : Number(said);
  const found = `a limit of ${said}, and ${least} are wanted`;
  return limit >= least ? { level: 'ok', what, found } : { level: 'warn', what, found, means, remedy };
}

function judgeHeap(): Line {
  const heap = getHeapStatistics().heap_size_limit;
  const memory = process.constrainedMemory();
  // Without a limit it is 0, or beyond what a machine has.
  const isLimited = memory > 0 && memory < 2 ** 50;
  const found = `heap up to ${mebibytes(heap)} MiB${isLimited ? ` of ${mebibytes(memory)} MiB that the container may use` : ''}`;
  if (heap >= LEAST_HEAP_BYTES && !(isLimited && heap > memory))
    return { level: 'ok', what: 'memory', found };
  return {
    level: 'warn',
    what: 'memory',
    found,
    means: 'In a rush the process runs out of memory and is ended; another goes on with what it had.',
    remedy: 'Give it 1 GiB, and `--max-old-space-size` of three quarters of that.',
  };
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}
