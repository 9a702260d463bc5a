/** A load test of any running Holdfast: a number of purchases, so many at a time, each timed and counted. */

import { z } from 'zod';
import { saleReply } from '../../src/api/calls/sale-views.ts';
import { tokenReply } from '../../src/api/demo-routes.ts';
import { openPurchaser, purchasesOf, type Answer } from '../purchaser.ts';
import { percentile, runConcurrently } from '../shoppers.ts';

/** More would only make the preparation longer. With fewer requests each has a shopper of its own. */
const SHOPPERS_MAX = 5_000;
const CALL_TIMEOUT_MS = 10_000;

/** What a caller did wrong, or cannot be done: said without a stack. */
export class LoadTestError extends Error {
  override name = 'LoadTestError';
}

export interface LoadTestOptions {
  url: string;
  requests: number;
  /** Connections that buy at the same time. */
  concurrency: number;
  /** A shopper's; without it, each purchase is by a shopper of its own whom the demo gives a token. */
  token?: string | undefined;
  /** Without it, the demo sale. */
  saleId?: string | undefined;
  onProgress(step: { what: string; done: number; of: number }): void;
}

export interface LoadTestReport {
  saleId: string;
  sku: string;
  /** On sale at the start. */
  available: number;
  requests: number;
  /** Accepted orders. */
  successes: number;
  /** Every other answer, and connections that failed. */
  failures: number;
  /** By answer, the most frequent first. */
  answers: { name: string; count: number }[];
  meanMs: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  seconds: number;
  /** Answers a second. */
  rate: number;
  /** Processor time of this process meanwhile. */
  cpuSeconds: number;
}

/** @throws LoadTestError */
export async function runLoadTest(options: LoadTestOptions): Promise<LoadTestReport> {
  const { requests, concurrency, onProgress } = options;
  const url = await findHoldfast(options.url);
  const { tokens, saleId } = await findShoppers(url, options);
  const { sku, available } = await findSku(url, saleId);
  const answers: (Answer & { latencyMs: number })[] = [];
  const [startedMs, cpuBefore] = [performance.now(), process.cpuUsage()];
  let sent = 0;
  const runId = `load-${process.pid}-${Date.now()}`;

  const address = { host: url.hostname, port: Number(url.port || 80) };
  // One for all connections, so that each purchase is by the next shopper.
  const requestOf = purchasesOf({ ...address, saleId, sku, tokens });

  async function buyInTurn(): Promise<void> {
    const open = () => openPurchaser(address, requestOf);
    let purchaser = await open();
    while (sent < requests) {
      sent += 1;
      const key = `${runId}-${sent}`;
      if (!purchaser.isOpen()) purchaser = await open();
      const sentMs = performance.now();
      const answer = await new Promise<Answer>((resolve) => purchaser.buy(key, resolve));
      answers.push({ ...answer, latencyMs: performance.now() - sentMs });
      onProgress({ what: 'purchases', done: answers.length, of: requests });
    }
    purchaser.close();
  }

  await Promise.all(Array.from({ length: Math.min(concurrency, requests) }, buyInTurn));
  const seconds = (performance.now() - startedMs) / 1_000;
  const { user, system } = process.cpuUsage(cpuBefore);
  const cpuSeconds = (user + system) / 1e6;
  return {
    saleId,
    sku,
    available,
    ...summarize(answers),
    seconds,
    rate: answers.length / seconds,
    cpuSeconds,
  };
}

function summarize(answers: readonly (Answer & { latencyMs: number })[]) {
  const counts = new Map<string, number>();
  for (const { name } of answers) counts.set(name, (counts.get(name) ?? 0) + 1);
  const latencies = answers.map(({ latencyMs }) => latencyMs);
  const successes = counts.get('accepted') ?? 0;
  return {
    requests: answers.length,
    successes,
    failures: answers.length - successes,
    answers: [...counts].map(([name, count]) => ({ name, count })).toSorted((a, b) => b.count - a.count),
    meanMs: latencies.reduce((sum, each) => sum + each, 0) / latencies.length,
    p50Ms: percentile(latencies, 0.5),
    p99Ms: percentile(latencies, 0.99),
    maxMs: Math.max(...latencies),
  };
}

async function findHoldfast(address: string): Promise<URL> {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url?.protocol !== 'http:')
    throw new LoadTestError(`--url takes an address like http://127.0.0.1:3000, not ${address}`);
  const advice = `Start Holdfast with \`npm start\` in another terminal, or name a running one with --url.`;
  const health = await call(new URL('/healthz', url), 'GET').catch((error: unknown) => {
    throw new LoadTestError(`Nothing answers at ${url.origin}. ${advice}`, { cause: error });
  });
  if (!health.ok) throw new LoadTestError(`What answers at ${url.origin} is no Holdfast. ${advice}`);
  return url;
}

async function findShoppers(
  url: URL,
  { requests, concurrency, token, saleId, onProgress }: LoadTestOptions,
): Promise<{ tokens: readonly string[]; saleId: string }> {
  if (token !== undefined) {
    if (saleId === undefined) throw new LoadTestError('With --token, name the sale with --sale.');
    return { tokens: [token], saleId };
  }
  const count = Math.min(requests, SHOPPERS_MAX);
  let given = 0;
  const replies = await runConcurrently(count, concurrency, async () => {
    const reply = await call(new URL('/demo/token', url), 'POST');
    if (!reply.ok) throw new LoadTestError(`${url.origin} gives no demo tokens: pass --token and --sale.`);
    onProgress({ what: 'tokens', done: (given += 1), of: count });
    return tokenReply.parse(await reply.json());
  });
  return { tokens: replies.map((reply) => reply.token), saleId: saleId ?? replies[0]?.saleId ?? '' };
}

/** The SKU with the most units left. */
async function findSku(url: URL, saleId: string): Promise<{ sku: string; available: number }> {
  const reply = await call(new URL(`/v1/sales/${encodeURIComponent(saleId)}`, url), 'GET');
  if (!reply.ok) throw new LoadTestError(`${url.origin} has no sale "${saleId}".`);
  const { skus } = z.object({ skus: saleReply.shape.skus }).parse(await reply.json());
  const [best] = skus.toSorted((a, b) => b.available - a.available);
  if (best === undefined) throw new LoadTestError(`The sale "${saleId}" sells nothing.`);
  return best;
}

function call(url: URL, method: string): Promise<Response> {
  return fetch(url, { method, signal: AbortSignal.timeout(CALL_TIMEOUT_MS) });
}
