/**
 * What each way takes: the files in which a function runs on it that does not run when the service is idle,
 * and the files of its workflows' code, which V8 cannot count here.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { closureOf, countLines, readSources, type Sources } from '../house/sources.ts';
import { openShop, WAYS, type Shop, type Way } from './journeys.ts';
import { startRecording, type Part, type Parts, type Recorder } from './recorder.ts';

/** After one that does not count, as first uses fill caches and open connections. */
const JOURNEYS = 3;
/**
 * Longer than any loop of a worker pauses before it goes round: most do so each second, and the follower of
 * an outbox looks after its consumers every ten.
 */
const LONGEST_PAUSE_MS = 11_000;
/** A journey's end is followed by what others do about it: events are numbered, slots are given back. */
const REST_MS = 700;
/** A look reads all that ran in the process, so it takes time from what it looks at. */
const LOOK_EVERY_MS = 50;
/** On a machine that stalls, time passes in which nothing could run. */
const QUIET_LOOKS_MIN = 15;
/** Bounds a hang. */
const TIMEOUT_MS = 60_000;

/** What a way takes. */
export interface Taken {
  /** In order. */
  files: string[];
  /** Of the functions that run; of scripts and workflows, whose functions are not told apart, all. */
  linesThatRun: number;
}

export async function recordWays(): Promise<Map<string, Taken>> {
  const sources = readSources();
  const shop = await openShop();
  try {
    const recorder = await startRecording();
    try {
      const idle = await learnIdle(recorder);
      const taken = new Map<string, Taken>();
      for (const way of WAYS) taken.set(way.name, await recordWay(way, { shop, recorder, idle, sources }));
      return taken;
    } finally {
      await recorder.stop();
    }
  } finally {
    await shop.close();
  }
}

interface Scene {
  shop: Shop;
  recorder: Recorder;
  idle: Parts;
  sources: Sources;
}

/** What ran in each of the journeys; so what a loop did by chance during one of them does not count. */
async function recordWay(way: Way, { shop, recorder, idle, sources }: Scene): Promise<Taken> {
  const journeys: Parts[] = [];
  for (let i = 0; i <= JOURNEYS; i += 1) {
    const walk = await way.prepare(shop);
    await rest(recorder, idle);
    await walk();
    const ran = await rest(recorder, idle);
    if (i > 0) journeys.push(ran);
  }
  const [first, ...others] = journeys;
  const inAll = [...(first ?? [])].filter(([key]) => others.every((ran) => ran.has(key)));
  const parts = inAll.map(([, part]) => part);
  const whole = new Set([
    ...parts.filter(({ at }) => at === undefined).map(({ file }) => file),
    ...closureOf(sources, way.workflows),
  ]);
  const lines = parts
    .filter(({ file }) => !whole.has(file))
    .flatMap((part) => part.lines.map((line) => `${part.file}:${line}`));
  return {
    files: [...new Set([...parts.map(({ file }) => file), ...whole])].toSorted(),
    linesThatRun: new Set(lines).size + [...whole].reduce((sum, file) => sum + countLines(file), 0),
  };
}

/** Looks on until nothing new has run for as long as the longest pause. */
async function learnIdle(recorder: Recorder): Promise<Parts> {
  const idle = new Map<string, Part>();
  await lookUntilQuiet(recorder, LONGEST_PAUSE_MS, (parts) => {
    const known = idle.size;
    for (const [key, part] of parts) idle.set(key, part);
    return idle.size > known;
  });
  return idle;
}

/** Looks on until nothing runs but what runs when idle. @returns what else has run since the last look */
async function rest(recorder: Recorder, idle: Parts): Promise<Parts> {
  const ran = new Map<string, Part>();
  await lookUntilQuiet(recorder, REST_MS, (parts) => {
    const others = [...parts].filter(([key]) => !idle.has(key));
    for (const [key, part] of others) ran.set(key, part);
    return others.length > 0;
  });
  return ran;
}

/** @param note takes what ran since the last look; returns whether the quiet begins anew */
async function lookUntilQuiet(
  recorder: Recorder,
  quietMs: number,
  note: (parts: Parts) => boolean,
): Promise<void> {
  const untilMs = Date.now() + TIMEOUT_MS;
  let [quietSinceMs, quietLooks] = [Date.now(), 0];
  while (Date.now() - quietSinceMs < quietMs || quietLooks < QUIET_LOOKS_MIN) {
    if (Date.now() > untilMs) throw new Error('the service does not come to rest');
    await delay(LOOK_EVERY_MS);
    quietLooks += 1;
    if (note(await recorder.take())) [quietSinceMs, quietLooks] = [Date.now(), 0];
  }
}
