/**
 * 5,000 long polls and 1,000 event streams on one API while a sale sells: the memory of each, how soon a
 * change is told to the last that wait for its order, and the orders accepted with and without them.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { createReservations } from '../src/orders/reservations.redis.ts';
import { saleKeys } from '../src/redis/keys.ts';
import { waitUntil } from '../stack/processes/wait.ts';
import type { BenchCheckout } from './checkout.ts';
import { LIFTED, liftedWindowMs } from './lifted-bound.ts';
import { startLoadGenerator } from './load.ts';
import { readMemory } from './memory.ts';
import { openPurchaser, type Answer } from './purchaser.ts';
import { createShoppers, percentile, runConcurrently, signTokens } from './shoppers.ts';

/** Each waits for an order of its own. */
const POLLS = 5_000;
/** The first of those orders have a stream besides. */
const STREAMS = 1_000;
/** So many that nothing sells out. */
const UNITS = 10_000_000;
const CONNECTIONS = 64;
const WARM_UP_SECONDS = 5;
const ROUND_SECONDS = 8;
/** In this order, so that neither has the warmer or the fuller servers. */
const ROUNDS = ['without', 'with', 'with', 'without', 'without', 'with'] as const;
/** Orders in one message, as of a page that was stored. */
const PAGE = 500;
const STORED_VERSION = 1;
const CHANGE_EVERY_MS = 25;
/** The looks themselves must not be load. */
const LOOK_EVERY_MS = 250;
/** So many come at once: fewer than the API looks up at a time. */
const COMING_AT_ONCE = 200;
/** More than that ask again after a page of changes; who is refused comes back within so long, as told. */
const COME_BACK_WITHIN_MS = 4_000;
/** Of the polls: one whose wait has ended is about to ask again, and a busy machine takes a second for it. */
const ON_THE_WAY = 0.05;
/** A slow machine needs seconds; this bounds a hang. */
const STEP_TIMEOUT_MS = 120_000;

interface Watched {
  orderNo: string;
  token: string;
}

export async function watch(checkout: BenchCheckout): Promise<void> {
  const saleId = await checkout.openSale(UNITS, liftedWindowMs());
  console.log(LIFTED);
  // What is measured is the front, and no order needs its workflow here.
  checkout.freezeTemporal();
  const watched = await placeWatched(checkout, saleId);
  const { hostname: host, port } = new URL(checkout.apiUrl);
  const generator = startLoadGenerator();
  const tokens = await signTokens(STREAMS);
  const sell = async (seconds: number): Promise<number> => {
    const load = { host, port: Number(port), saleId, tokens, seconds, connections: CONNECTIONS, rate: null };
    const { accepted, unanswered, ...report } = await generator.run(load);
    assert.equal(unanswered, 0);
    return accepted.length / report.seconds;
  };
  const changes = createChanges(checkout);
  const watchers = createWatchers(checkout, watched, changes);
  try {
    // Before anything is sold: what a sale leaves unused is taken by those that wait, and would hide them.
    await reportMemory(checkout, watchers);
    await sell(WARM_UP_SECONDS);
    await untilStored(checkout, saleId);
    const rates = { with: [] as number[], without: [] as number[] };
    const told = { one: [] as number[], page: [] as number[] };
    for (const [i, kind] of ROUNDS.entries()) {
      if (kind === 'with') await watchers.open();
      else await watchers.close();
      const selling = sell(ROUND_SECONDS);
      if (kind === 'with') await changeWhile(changes, watched, told);
      rates[kind].push(await selling);
      console.log(`round ${i + 1}, ${kind} watchers: ${rates[kind].at(-1)?.toFixed(0)} accepted/s`);
      await untilStored(checkout, saleId);
    }
    console.log(
      [
        `median: ${percentile(rates.without, 0.5).toFixed(0)} accepted/s without watchers, ` +
          `${percentile(rates.with, 0.5).toFixed(0)} with ${POLLS} long polls and ${STREAMS} event streams`,
        `${told.one.length} changes of one order, until its poll and its stream were told: ${times(told.one)}`,
        `${told.page.length} orders in pages of ${PAGE}, until the last of each was told: ${times(told.page)}`,
        `${watchers.refused()} polls came while the API had no place, and came back`,
        `API memory at its peak: ${readMemory(checkout.pids.api).peakMb} MB`,
      ].join('\n'),
    );
    assert.deepEqual(watchers.failures, []);
  } finally {
    await watchers.close();
    await generator.stop();
    checkout.thawTemporal();
  }
}

function times(valuesMs: readonly number[]): string {
  const [p50, p99, max] = [0.5, 0.99, 1].map((share) => percentile(valuesMs, share).toFixed(1));
  return `p50 ${p50} ms, p99 ${p99} ms, max ${max} ms`;
}

/** An order for each user, stored, so that it is in its first version. */
async function placeWatched(checkout: BenchCheckout, saleId: string): Promise<Watched[]> {
  const shoppers = await createShoppers(checkout.apiUrl, POLLS, CONNECTIONS);
  const replies = await runConcurrently(POLLS, CONNECTIONS, (i) => shoppers.placeOrder(i, saleId));
  shoppers.close();
  const tokens = await signTokens(POLLS);
  await untilStored(checkout, saleId);
  return replies.map(({ status, body }, i) => {
    assert.equal(status, 202, body);
    return { orderNo: /"orderNo":"([\w-]+)"/.exec(body)?.[1] ?? '', token: tokens[i] ?? '' };
  });
}

async function untilStored({ stores: { redis } }: BenchCheckout, saleId: string): Promise<void> {
  const { outbox } = saleKeys({ saleId, shard: 0 });
  await waitUntil({
    what: 'all accepted orders to be stored',
    timeoutMs: STEP_TIMEOUT_MS,
    check: async () => {
      await delay(LOOK_EVERY_MS);
      return (await redis.xlen(outbox)) === 0;
    },
  });
}

async function reportMemory(
  { pids: { api } }: BenchCheckout,
  watchers: ReturnType<typeof createWatchers>,
): Promise<void> {
  const { nowMb: beforeMb } = readMemory(api);
  await watchers.openPolls();
  const { nowMb: polledMb } = readMemory(api);
  await watchers.openStreams();
  const { nowMb } = readMemory(api);
  const each = (mb: number, count: number): string => `${((mb * 1024) / count).toFixed(1)} KB each`;
  console.log(
    `API memory: ${beforeMb} MB; with ${POLLS} long polls ${polledMb} MB (${each(polledMb - beforeMb, POLLS)}); ` +
      `with ${STREAMS} event streams besides ${nowMb} MB (${each(nowMb - polledMb, STREAMS)})`,
  );
}

type Changes = ReturnType<typeof createChanges>;

/** Changes of watched orders, one after the other or a page at once. */
function createChanges({ stores: { redis } }: BenchCheckout) {
  const { projectAll } = createReservations(redis, { storesPerSecond: 1_000 });
  let newest = STORED_VERSION;
  const versions = new Map<string, number>();
  const open = new Map<string, { untold: number; done: () => void }>();
  return {
    versionOf: (orderNo: string): number => versions.get(orderNo) ?? STORED_VERSION,

    told(orderNo: string): void {
      const change = open.get(orderNo);
      if (!change) return;
      change.untold -= 1;
      if (change.untold > 0) return;
      open.delete(orderNo);
      change.done();
    },

    /** @returns after how many ms the last of each order's watchers was told */
    async change(orderNos: readonly string[], watchersOfEach: number): Promise<number[]> {
      newest += 1;
      for (const orderNo of orderNos) versions.set(orderNo, newest);
      const sinceMs = performance.now();
      const all = Promise.all(
        orderNos.map(
          (orderNo) =>
            new Promise<number>((resolve) => {
              const done = (): void => resolve(performance.now() - sinceMs);
              open.set(orderNo, { untold: watchersOfEach, done });
            }),
        ),
      );
      await projectAll(orderNos, {
        status: 'awaiting_payment',
        version: newest,
        payment: 'none',
        reason: null,
      });
      const late = delay(STEP_TIMEOUT_MS, undefined, { ref: false }).then(() => {
        throw new Error(`${open.size} of ${orderNos.length} changes were not told`);
      });
      return Promise.race([all, late]);
    },
  };
}

/** Of one order after the other for half of a round, then of a page at once. */
async function changeWhile(
  { change }: Changes,
  watched: readonly Watched[],
  told: { one: number[]; page: number[] },
): Promise<void> {
  const untilMs = performance.now() + (ROUND_SECONDS * 1_000) / 2;
  for (let i = told.one.length; performance.now() < untilMs; i += 1) {
    const { orderNo } = watched[i % STREAMS] ?? assert.fail('an order');
    told.one.push(...(await change([orderNo], 2)));
    await delay(CHANGE_EVERY_MS);
  }
  const page = watched.slice(-PAGE).map(({ orderNo }) => orderNo);
  told.page.push(...(await change(page, 1)));
}

/** Those that wait, each over a connection of its own. */
function createWatchers({ apiUrl }: BenchCheckout, watched: readonly Watched[], changes: Changes) {
  const { hostname: host, port: portText } = new URL(apiUrl);
  const port = Number(portText);
  const failures: string[] = [];
  const closers: (() => void)[] = [];
  let refused = 0;
  let isClosing = false;

  const headOf = ({ token }: Watched, path: string, more = ''): string =>
    `GET ${path} HTTP/1.1\r\nHost: ${host}:${port}\r\nAuthorization: Bearer ${token}\r\n${more}\r\n`;

  /** Asks again as soon as it is answered. */
  async function poll(order: Watched): Promise<void> {
    const { orderNo } = order;
    let known = changes.versionOf(orderNo);
    const connection = await openPurchaser({ host, port }, () =>
      headOf(order, `/v1/orders/${orderNo}?wait=25`, `If-None-Match: "${known}"\r\n`),
    );
    closers.push(connection.close);
    const ask = (): void => {
      if (connection.isOpen()) connection.buy('', answered);
    };
    const answered = ({ name }: Answer): void => {
      if (isClosing) return;
      if (name.startsWith('503 ')) {
        refused += 1;
        void delay(Math.random() * COME_BACK_WITHIN_MS).then(ask);
        return;
      }
      if (name === 'polled') {
        known = changes.versionOf(orderNo);
        changes.told(orderNo);
      } else if (!name.startsWith('304 ')) {
        failures.push(name);
        return;
      }
      ask();
    };
    ask();
  }

  async function stream(order: Watched): Promise<void> {
    const socket = connect({ host, port, noDelay: true });
    await once(socket, 'connect');
    closers.push(() => socket.destroy());
    let unread = '';
    socket
      .setEncoding('latin1')
      .on('error', (error) => failures.push(error.message))
      .on('close', () => isClosing || failures.push('a stream was closed'))
      .on('data', (chunk: string) => {
        const events = (unread + chunk).split('\n\n');
        unread = events.pop() ?? '';
        for (const event of events) if (event.includes('event: order')) changes.told(order.orderNo);
      });
    socket.write(headOf(order, `/v1/orders/${order.orderNo}/events`));
  }

  /** By the API's own gauge. */
  async function untilWaiting(kind: 'poll' | 'stream', count: number): Promise<void> {
    const gauge = new RegExp(`^holdfast_watchers\\{kind="${kind}"\\} (\\d+)$`, 'm');
    await waitUntil({
      what: `${count} to wait in a ${kind}`,
      timeoutMs: STEP_TIMEOUT_MS,
      check: async () => {
        await delay(LOOK_EVERY_MS);
        const waiting = Number(gauge.exec(await (await fetch(`${apiUrl}/metrics`)).text())?.[1]);
        return count === 0 ? waiting === 0 : waiting >= count * (1 - ON_THE_WAY);
      },
    });
  }

  async function openAll(kind: 'poll' | 'stream', count: number): Promise<void> {
    const openOne = kind === 'poll' ? poll : stream;
    for (let from = 0; from < count; from += COMING_AT_ONCE) {
      await Promise.all(watched.slice(from, from + COMING_AT_ONCE).map(openOne));
      await untilWaiting(kind, from + COMING_AT_ONCE);
    }
  }

  const openPolls = () => openAll('poll', POLLS);
  const openStreams = () => openAll('stream', STREAMS);

  return {
    failures,
    refused: () => refused,
    openPolls,
    openStreams,

    async open(): Promise<void> {
      if (closers.length > 0) return;
      await openPolls();
      await openStreams();
    },

    async close(): Promise<void> {
      isClosing = true;
      for (const close of closers.splice(0)) close();
      await Promise.all([untilWaiting('poll', 0), untilWaiting('stream', 0)]);
      isClosing = false;
    },
  };
}
