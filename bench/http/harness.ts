/**
 * What the parts that load HTTP servers share: servers, wrk, shoppers' tokens, and loads that are checked.
 */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { signToken } from '../../src/api/http/auth.ts';
import { demoSecrets } from '../../stack/app.ts';
import { locateWrk } from '../../stack/install/wrk.ts';
import { median } from '../compare/judgement.ts';
import type { Column, Figures } from '../compare/part.ts';
import { openBenchServers, type BenchServers } from '../servers.ts';
import { readBusySeconds, readCpuSeconds } from './cpu.ts';
import { CONNECTIONS, orderRequest, runLoad, writeRequests, type LoadReport } from './wrk.ts';

/** Each shopper has a token of their own, and a server has seen none of them before. */
const SHOPPERS = 20_000;
/**
 * A front reaches its speed after some thirty thousand requests, when Node's compiler has seen all of it. A
 * sale meets an API that has been up for long.
 */
export const WARM_UP_SECONDS = 6;
export const MEASURE_SECONDS = 4;
/** The last requests of a load are still under way when wrk ends. */
const SETTLE_MS = 250;

/** Of the load generator and of the server process alone; Redis and the like have the rest of the machine. */
export const CPU_COLUMNS: readonly Column[] = [
  { key: 'serverCpu', label: 'server CPU', unit: '%', digits: 0 },
  { key: 'generatorCpu', label: 'wrk CPU', unit: '%', digits: 0 },
];
export const LATENCY_COLUMNS: readonly Column[] = [
  { key: 'p50Ms', label: 'p50', unit: 'ms', digits: 1 },
  { key: 'p99Ms', label: 'p99', unit: 'ms', digits: 1 },
];

/** Processor time of Redis for each request that is counted. */
export const REDIS_COLUMN: Column = { key: 'redisUs', label: 'Redis', unit: 'µs', digits: 0 };

export interface Target {
  url: string;
  pid: number;
}

export interface HttpReport extends LoadReport {
  redisCpuSeconds: number;
}

export interface Harness {
  stack: BenchServers;
  wrk: string;
  /** Signed once; the first 20,000 have this number, the next ones the next. */
  tokens(pool: number): Promise<readonly string[]>;
  warmUp(target: Target, saleId: string): Promise<void>;
  /** Purchases of one unit each, by shoppers of this pool, for `MEASURE_SECONDS` or for so many. */
  buy(target: Target, options: { saleId: string; pool: number; seconds?: number }): Promise<HttpReport>;
  /** Of any requests that were written down. */
  load(target: Target, requests: readonly string[], seconds: number): Promise<HttpReport>;
  close(): Promise<void>;
}

export async function openHarness(progress: (line: string) => void): Promise<Harness> {
  const wrk = await locateWrk(progress);
  progress('Starting Redis, MySQL and Temporal');
  const stack = await openBenchServers(progress);
  const harness = createHarness(stack, wrk);
  return { ...harness, close: stack.close };
}

export function createHarness(stack: BenchServers, wrk: string): Omit<Harness, 'close'> {
  let loads = 0;

  /** Of this command and all that it has started here. */
  const readOwnSeconds = (): number =>
    [process.pid, ...stack.processes.names().map((name) => stack.processes.pid(name))].reduce(
      (sum, pid) => sum + readCpuSeconds(pid),
      0,
    );

  async function load(target: Target, requests: readonly string[], seconds: number): Promise<HttpReport> {
    loads += 1;
    const requestsFile = join(stack.processes.dataDir, 'requests');
    writeRequests(requestsFile, requests);
    const keyPrefix = `bench-${process.pid}-${loads}-`;
    const before = readBusySeconds() - readOwnSeconds();
    const redisPid = stack.processes.pid('redis');
    const redisBefore = readCpuSeconds(redisPid);
    const report = await runLoad({ wrk, ...target, requestsFile, keyPrefix, seconds });
    const others = readBusySeconds() - readOwnSeconds() - before - report.cpuSeconds;
    othersCpu.push(Math.max(0, (100 * others) / report.seconds));
    await delay(SETTLE_MS);
    return { ...report, redisCpuSeconds: readCpuSeconds(redisPid) - redisBefore };
  }

  return {
    stack,
    wrk,
    load,
    tokens: poolTokens,

    async warmUp(target, saleId) {
      // As in a load, with tokens that are new to the server.
      const tokens = await poolTokens(0);
      await load(
        target,
        tokens.map((token) => orderRequest(saleId, token)),
        WARM_UP_SECONDS,
      );
    },

    async buy(target, { saleId, pool, seconds = MEASURE_SECONDS }) {
      const requests = (await poolTokens(pool)).map((token) => orderRequest(saleId, token));
      return load(target, requests, seconds);
    },
  };
}

/** Of each load of this run, in percent of one core. */
const othersCpu: number[] = [];

/** Whether something else was at work on the machine, for the notes. */
export function describeOthers(): string {
  const [typical, most] = [median(othersCpu), Math.max(...othersCpu)];
  return (
    `Processes that had no part in a load used ${typical.toFixed(0)} % of one core (median of all loads; at most ` +
    `${most.toFixed(0)} %): the less, the more the figures can be trusted.`
  );
}

const pools = new Map<number, Promise<string[]>>();

/** 0 is for warming up. */
function poolTokens(pool: number): Promise<string[]> {
  const known = pools.get(pool);
  if (known !== undefined) return known;
  const users = Array.from({ length: SHOPPERS }, (_, i) => `shopper-${pool}-${i}`);
  const signed = Promise.all(users.map((user) => signToken(demoSecrets.jwt, user, '2h')));
  pools.set(pool, signed);
  return signed;
}

export function figuresOf(report: HttpReport, count: number): Figures {
  const { seconds, p50Ms, p99Ms, serverCpu, generatorCpu, redisCpuSeconds } = report;
  const redisUs = (1_000_000 * redisCpuSeconds) / count;
  return { rate: count / seconds, p50Ms, p99Ms, serverCpu, generatorCpu, redisUs };
}

/** wrk ends without waiting for the answers to its last requests: one a connection may have been served. */
export function assertCount(what: string, counted: number, answered: number): void {
  const extra = counted - answered;
  assert(extra >= 0 && extra <= CONNECTIONS, `${what}: ${counted}, and ${answered} were answered so`);
}

/** How many requests a token made, for the notes. */
export function describeTokens(answers: readonly number[]): string {
  const most = Math.max(...answers, 0);
  return (
    `Each load has ${SHOPPERS.toLocaleString('en-US')} shoppers with a token of their own that the server has not ` +
    `seen before; in the fastest load each was sent ${(most / SHOPPERS).toFixed(1)} times.`
  );
}
