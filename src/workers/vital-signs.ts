/**
 * The vital signs of a worker: beats in both stores, by which any API sees that it has died, is frozen, or
 * stands still.
 */

import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { BEAT_EVERY_MS, type WorkerBeat } from '../status/status.ts';
import type { Stores } from '../stores/open.ts';
import { runLoop, type LoopWatch } from './loop.ts';

export interface BeatDeps extends Pick<Stores, 'redisStatus' | 'mysqlStatus'> {
  /** Unique among all workers that ever ran. */
  workerId: string;
  build: string;
  /** Where the probe listens. */
  url: string;
  watch: LoopWatch;
  log: Logger;
}

/** A worker that stops takes itself off, and waits for a store that is away no longer than this. */
const LEAVE_WITHIN_MS = 1_000;

/** Runs until `signal` aborts. A store that is away delays no beat in the other. */
export async function runBeats(deps: BeatDeps, signal: AbortSignal): Promise<void> {
  const { workerId, redisStatus, mysqlStatus, build, url, watch, log } = deps;
  const startedMs = performance.now();
  const beat = (): WorkerBeat => ({
    workerId,
    host: hostname(),
    pid: process.pid,
    build,
    upMs: Math.round(performance.now() - startedMs),
    url,
    hanging: watch.hanging(),
  });
  /** One that stops leaves each store by itself, and is forgotten within minutes where it cannot. */
  async function beatIn(name: string, store: BeatStore): Promise<void> {
    const pass = async () => {
      await store.beat(beat());
      return BEAT_EVERY_MS;
    };
    await runLoop(name, pass, { log, signal, watch });
    const left = store.leave(workerId).catch((error: unknown) => {
      log.warn({ err: error, loop: name }, 'a worker that stops could not say so');
    });
    await Promise.race([left, delay(LEAVE_WITHIN_MS, undefined, { ref: false })]);
  }
  await Promise.all([beatIn('beat in Redis', redisStatus), beatIn('beat in MySQL', mysqlStatus)]);
}

type BeatStore = Pick<Stores['redisStatus'], 'beat' | 'leave'>;
