/**
 * Loads a server with wrk: one thread, requests that were written down ahead, and a report of what came
 * back.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { readCpuSeconds } from './cpu.ts';

/**
 * As many as row A9's load test has, and fewer than the API works on at once, so that no call waits there.
 */
export const CONNECTIONS = 64;

const reportSchema = z.object({
  /** Answers of any status. */
  answers: z.int(),
  /** Those of them with a status of 400 or more. */
  refusals: z.int(),
  /** Connections that failed, and answers that did not come. */
  broken: z.int(),
  seconds: z.number(),
  cpuSeconds: z.number(),
  p50Ms: z.number(),
  p99Ms: z.number(),
});

export interface LoadReport extends z.infer<typeof reportSchema> {
  /** In percent of one core: of the server's process, and of wrk. */
  serverCpu: number;
  generatorCpu: number;
}

export interface LoadOptions {
  wrk: string;
  url: string;
  /** Written by `writeRequests`. */
  requestsFile: string;
  /** The idempotency keys of this load begin with it. */
  keyPrefix: string;
  seconds: number;
  /** Of the server, whose processor time is counted. */
  pid: number;
}

/** @throws when a connection broke: then the figures mean nothing */
export async function runLoad(options: LoadOptions): Promise<LoadReport> {
  const { wrk, url, requestsFile, keyPrefix, seconds, pid } = options;
  const script = join(repoDir, 'bench', 'http', 'wrk.lua');
  const load = ['-t1', `-c${CONNECTIONS}`, `-d${seconds}s`, '--timeout', '10s', '-s', script];
  const cpuBefore = readCpuSeconds(pid);
  const child = spawn(wrk, [...load, url, '--', requestsFile, keyPrefix], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [output, errors, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ]);
  const serverCpuSeconds = readCpuSeconds(pid) - cpuBefore;
  const line = output.split('\n').findLast((each) => each.startsWith('{'));
  assert(code === 0 && line !== undefined, `wrk ended with ${code}: ${errors}${output}`);
  const report = reportSchema.parse(JSON.parse(line));
  assert.equal(report.broken, 0, `no connection to ${url} breaks`);
  return {
    ...report,
    serverCpu: (100 * serverCpuSeconds) / report.seconds,
    generatorCpu: (100 * report.cpuSeconds) / report.seconds,
  };
}

/** Whole HTTP requests, as they go over the wire. */
export function writeRequests(file: string, requests: readonly string[]): void {
  writeFileSync(file, requests.map((request) => `${request}\0`).join(''));
}

const KEY_PLACE = '\u0001';

/** A purchase of one unit; each time it is sent its idempotency key is another. */
export function orderRequest(saleId: string, token: string): string {
  const body = JSON.stringify({ saleId, items: [{ sku: 'unit', quantity: 1 }] });
  return [
    'POST /v1/orders HTTP/1.1',
    'Host: 127.0.0.1',
    `Authorization: Bearer ${token}`,
    `Idempotency-Key: ${KEY_PLACE}`,
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
    '',
    body,
  ].join('\r\n');
}

/** @param etag of the version that the caller knows; null when it asks for the first time */
export function readRequest(orderNo: string, token: string, etag: string | null): string {
  return [
    `GET /v1/orders/${orderNo} HTTP/1.1`,
    'Host: 127.0.0.1',
    `Authorization: Bearer ${token}`,
    ...(etag === null ? [] : [`If-None-Match: ${etag}`]),
    '',
    '',
  ].join('\r\n');
}
