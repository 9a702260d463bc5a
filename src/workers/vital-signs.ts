/**
 * The vital signs of a worker: a port that answers whether it lives and with its metrics, and beats in both
 * stores, by which any API sees that it has died, is frozen, or stands still.
 */

import { createServer } from 'node:http';
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { ulid } from 'ulidx';
import type { WorkerMetrics } from '../metrics.ts';
import { BEAT_EVERY_MS, type WorkerBeat } from '../status/status.ts';
import type { Stores } from '../stores/open.ts';
import { runLoop, type LoopWatch } from './loop.ts';

/** Probes and scrapes come every few seconds, and each is answered from memory. */
const CONNECTIONS_MAX = 50;
const REQUEST_TIMEOUT_MS = 5_000;

export interface ProbeOptions {
  host: string;
  /** 0: any that is free. */
  port: number;
  watch: LoopWatch;
  metrics: Pick<WorkerMetrics, 'contentType' | 'read'>;
}

/** @throws when the port is taken */
export async function openProbe({ host, port, watch, metrics }: ProbeOptions) {
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    const answer = (status: number, type: string, text: string): void => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(text);
    };
    const answerJson = (status: number, body: object): void =>
      answer(status, 'application/json; charset=utf-8', JSON.stringify(body));
    if (request.method === 'GET' && request.url === '/healthz') {
      // A store or Temporal that is away is no reason to start the worker again: it would find them away too.
      const loops = watch.hanging();
      answerJson(
        loops.length === 0 ? 200 : 503,
        loops.length === 0 ? { status: 'ok' } : { status: 'hanging', loops },
      );
    } else if (request.method === 'GET' && request.url === '/metrics') {
      metrics.read().then(
        (text) => answer(200, metrics.contentType, text),
        () => answerJson(500, { status: 'error' }),
      );
    } else {
      answerJson(404, { status: 'not_found' });
    }
  });
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const address = server.address();
  const given = typeof address === 'object' && address ? address.port : port;
  return {
    url: `http://${nameOf(host)}:${given}`,
    async close(): Promise<void> {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** By which others find it: where it listens on every address, that is the machine's name. */
function nameOf(host: string): string {
  if (host === '0.0.0.0' || host === '::') return hostname();
  return host.includes(':') ? `[${host}]` : host;
}

export interface BeatDeps extends Pick<Stores, 'redisStatus' | 'mysqlStatus'> {
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
  const { redisStatus, mysqlStatus, build, url, watch, log } = deps;
  const workerId = ulid();
  const beat = (): WorkerBeat => ({
    workerId,
    host: hostname(),
    pid: process.pid,
    build,
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
