/** MySQL loses commits while Redis goes on: no reader of the feed skips an event that has a number of old. */

import { beforeEach, expect, test } from 'vitest';
import { readFeed } from '../../src/audit/reads.sql.ts';
import { createDispatcher, readEvents } from '../../src/events/feed.ts';
import { createWorkerMetrics } from '../../src/metrics.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import { copyMysql } from '../support/set-back-mysql.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
let saleId: string;
beforeEach(async () => {
  stores = await openTestStores();
  ({ saleId } = await stores.openSale(buildSale()));
});

const last = () => stores.eventRows.readLastSequence();
const openDispatcher = (feedMarks = stores.feedMarks) =>
  createDispatcher({ ...stores, feedMarks, log: silent }, createWorkerMetrics());

/** @returns the order's number; its event has none yet */
async function sell(): Promise<string> {
  const order = buildOrder({ saleId });
  await stores.orders.storeOrder(order, 'started');
  return order.orderNo;
}

async function readAfter(after: number): Promise<string[]> {
  const read = await readEvents(stores, { after, limit: 100, filter: {} });
  if (read.kind === 'ahead') throw new Error(`ahead of ${read.last}`);
  return read.events.flatMap((event) => ('orderNo' in event ? [event.orderNo] : []));
}

/** Numbers two events, and then MySQL has only the first of them. @returns the sequence of the second */
async function loseOne(pass: () => Promise<number>): Promise<number> {
  await sell();
  await pass();
  const restore = await copyMysql(stores.config.MYSQL_URL);
  await sell();
  await pass();
  const had = await last();
  await restore();
  expect(await last()).toBe(had - 1);
  return had;
}

test.each([
  ['the same process', (pass: () => Promise<number>) => pass],
  ['another process', () => openDispatcher()],
])('a consumer that has read what is lost skips nothing that comes after, numbered by %s', async (_, go) => {
  const first = openDispatcher();
  const had = await loseOne(first);
  const pass = go(first);
  const sold = [await sell(), await sell()];

  for (let i = 0; i < 3; i += 1) await pass();

  expect(await readAfter(had)).toEqual(sold.toSorted());
  expect(await last()).toBeGreaterThan(had);
});

test('lost commits are recorded once, by whichever process sees it', async () => {
  const passes = [openDispatcher(), openDispatcher()];
  const had = await loseOne(openDispatcher());

  for (let i = 0; i < 3; i += 1) await Promise.all(passes.map((pass) => pass()));

  const after = await last();
  const read = await readEvents(stores, { after: had, limit: 100, filter: {} });
  // A reader who has come further than MySQL learns which numbers have no event any more.
  expect(read).toMatchObject({
    events: [
      { type: 'feed.gap', sequence: after, saleId: null, data: { gap: { after: had - 1, upTo: after - 1 } } },
    ],
  });
  expect(await select(stores.pool, 'SELECT action, subject FROM audit_log')).toEqual([
    { action: 'commits_lost', subject: 'mysql' },
  ]);
  // The audit knows the numbers that were left out.
  const feed = await readFeed(stores.pool);
  expect(feed).toMatchObject({ last: after, leftOut: after - feed.numbered, wrong: [] });
});

test('while Redis is away events are numbered, by a process that has asked it before, and by no other', async () => {
  const away = () => Promise.reject(new Error('Redis is away'));
  let isAway = false;
  const { read, raise } = stores.feedMarks;
  const pass = openDispatcher({
    read: (feedId) => (isAway ? away() : read(feedId)),
    raise: (feedId, sequence) => (isAway ? away() : raise(feedId, sequence)),
  });
  await pass();
  const before = await last();
  await sell();
  isAway = true;
  await pass();
  expect(await last()).toBe(before + 1);

  await expect(openDispatcher({ read: away, raise: away })()).rejects.toThrow('Redis is away');
  isAway = false;
  await pass();
  const { feedId } = await stores.eventRows.readFeed();
  expect(await read(feedId)).toBe(before + 1);
});

test('an empty Redis says nothing about MySQL, and learns what was given', async () => {
  const pass = openDispatcher();
  await sell();
  await pass();
  await stores.redis.flushall();

  await openDispatcher()();

  const { feedId, last: given } = await stores.eventRows.readFeed();
  expect(await stores.feedMarks.read(feedId)).toBe(given);
  expect(await select(stores.pool, 'SELECT action FROM audit_log')).toEqual([]);
});

test('another MySQL beside the same Redis has numbers of its own', async () => {
  const { feedId } = await stores.eventRows.readFeed();
  await stores.feedMarks.raise('another', 1_000_000);
  await sell();
  await openDispatcher()();
  expect(feedId).toMatch(/^[0-9a-f-]{36}$/);
  expect(await last()).toBeLessThan(1_000);
});
