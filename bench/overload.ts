/**
 * Three times what the checkout can take, for a minute: how many orders are accepted and refused, how
 * soon, and how the API recovers. It runs twice: with the worker on this machine, and with the worker
 * frozen, which leaves the API as much of the machine as it has where worker and Temporal run elsewhere.
 */

import assert from 'node:assert/strict';
import { runAudit } from '../src/audit/run-audit.ts';
import { saleKeys } from '../src/redis/keys.ts';
import { waitUntil } from '../stack/processes/wait.ts';
import type { BenchCheckout } from './checkout.ts';
import { LIFTED, liftedWindowMs } from './lifted-bound.ts';
import { startLoadGenerator, type Load, type LoadReport } from './load.ts';
import { readMemory } from './memory.ts';
import { signTokens } from './shoppers.ts';

const USERS = 1_000;
/** So many that nothing sells out. */
const UNITS = 10_000_000;
/** Fewer than the API works on at once, so no call waits for a place. */
const CLOSED_CONNECTIONS = 20;
const OPEN_CONNECTIONS = 512;
const WARM_UP_SECONDS = 3;
const CAPACITY_SECONDS = 8;
const OVERLOAD_SECONDS = 60;
const RECOVERY_SECONDS = 5;
const OVERLOAD = 3;
const LOOK_EVERY_MS = 250;
const STORE_TIMEOUT_MS = 10 * 60_000;

export async function overload(checkout: BenchCheckout): Promise<void> {
  // The bound under test is that of purchases at work.
  const saleId = await checkout.openSale(UNITS, liftedWindowMs());
  console.log(LIFTED);
  const { hostname: host, port } = new URL(checkout.apiUrl);
  const tokens = await signTokens(USERS);
  const generator = startLoadGenerator();
  const run: Run = (load) => generator.run({ host, port: Number(port), saleId, tokens, ...load });
  try {
    const shared = await rushAndRecover('all on this machine', checkout, run);
    checkout.freezeWorker();
    const apart = await rushAndRecover('the worker frozen', checkout, run);
    checkout.thawWorker();
    await audit(checkout, saleId, [...shared, ...apart]);
  } finally {
    await generator.stop();
  }
}

type Run = (load: Pick<Load, 'seconds' | 'connections' | 'rate'>) => Promise<LoadReport>;

/** @returns the orderNos of all that was accepted */
async function rushAndRecover(where: string, checkout: BenchCheckout, run: Run): Promise<string[]> {
  const closed = (seconds: number) => run({ seconds, connections: CLOSED_CONNECTIONS, rate: null });
  const memory = watchMemory(checkout.pids.api);
  try {
    const warmUp = await closed(WARM_UP_SECONDS);
    const before = await closed(CAPACITY_SECONDS);
    const capacity = before.accepted.length / before.seconds;
    const rssBefore = memory.look();
    console.log(`${where}: ${capacity.toFixed(0)} accepted/s from ${CLOSED_CONNECTIONS} connections`);
    const rate = Math.round(capacity * OVERLOAD);
    const rush = await run({ seconds: OVERLOAD_SECONDS, connections: OPEN_CONNECTIONS, rate });
    const after = await closed(RECOVERY_SECONDS);
    const rssAfter = memory.look();

    report(`offered ${rate}/s for ${OVERLOAD_SECONDS} s, ${OVERLOAD} times the capacity`, rush);
    report('before', before);
    report('at once after', after);
    console.log(
      [
        `first order accepted ${after.firstAcceptedMs.toFixed(0)} ms after the overload`,
        `API memory: ${rssBefore} MB before, ${memory.peak()} MB at the peak, ${rssAfter} MB after`,
      ].join('\n'),
    );
    for (const { unanswered } of [before, rush, after]) assert.equal(unanswered, 0);
    return [warmUp, before, rush, after].flatMap(({ accepted }) => accepted);
  } finally {
    memory.end();
  }
}

/**
 * Waits until all accepted orders are payable, and stops
 * the worker, so that nothing changes during the audit.
 */
async function audit(checkout: BenchCheckout, saleId: string, accepted: readonly string[]): Promise<void> {
  const { outbox } = saleKeys({ saleId, shard: 0 });
  const startedMs = performance.now();
  await waitUntil({
    what: 'all accepted orders to be stored',
    timeoutMs: STORE_TIMEOUT_MS,
    check: async () => (await checkout.stores.redis.xlen(outbox)) === 0,
  });
  console.log(
    `all ${accepted.length} accepted orders payable after another ${((performance.now() - startedMs) / 1_000).toFixed(0)} s`,
  );
  await checkout.stopWorker();
  const { orders, findings } = await runAudit(checkout, saleId, accepted);
  assert.deepEqual(findings, []);
  console.log(`the audit of ${orders} orders is clean`);
}

function report(what: string, { outcomes, seconds, sentLateP99Ms }: LoadReport): void {
  const row = (cells: readonly string[]): string =>
    `  ${cells.map((cell, i) => (i === 0 ? cell.padEnd(22) : cell.padStart(12))).join('')}`;
  const share = (part: number, of: number): string => `${((100 * part) / of).toFixed(2)} %`;
  console.log(
    [
      `${what} (the generator sent its 99th percentile ${sentLateP99Ms.toFixed(1)} ms late)`,
      row([
        'answer',
        'a second',
        'p50 ms',
        'p99 ms',
        'max ms',
        '<= 50 ms',
        'sent: p99',
        '<= 50 ms',
        'Retry-After',
      ]),
      ...outcomes.map(({ name, count, withRetryAfter, ...times }) =>
        row([
          name,
          (count / seconds).toFixed(0),
          ...[times.p50Ms, times.p99Ms, times.maxMs].map((ms) => ms.toFixed(1)),
          share(times.within50Ms, count),
          times.sentP99Ms.toFixed(1),
          share(times.sentWithin50Ms, count),
          name === 'accepted' ? '' : share(withRetryAfter, count),
        ]),
      ),
    ].join('\n'),
  );
}

/** In MB. */
function watchMemory(pid: number) {
  let peakMb = 0;
  function look(): number {
    const { nowMb } = readMemory(pid);
    peakMb = Math.max(peakMb, nowMb);
    return nowMb;
  }
  const looking = setInterval(look, LOOK_EVERY_MS);
  return { look, peak: () => peakMb, end: () => clearInterval(looking) };
}
