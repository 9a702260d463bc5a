/** Pages of the feed are bounded by bytes, so that sales with many SKUs do not make an answer of 100 MB. */

import { beforeAll, expect, test } from 'vitest';
import { readEvents, type EventFilter, type FeedPage } from '../../src/events/feed.ts';
import { MAX_EVENTS_PAGE_BYTES } from '../../src/events/feed.ts';
import { createEventSource } from '../../src/push/pusher.ts';
import { recordShopEvent } from '../../src/sales/rows.sql.ts';
import { dispatchEvents, readFeed } from '../support/events.ts';
import { buildOrder, buildSale, uniqueSaleId } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

/** A sale of this size twice fits a page, and three times does not. */
const BYTES = Math.floor(MAX_EVENTS_PAGE_BYTES * 0.45);

let stores: TestStores;
let saleId: string;
beforeAll(async () => {
  stores = await openTestStores();
  ({ saleId } = await stores.openSale(buildSale()));
});

/** Records events of a sale with so many bytes each. @returns the sequence before the first of them */
async function record(ofSale: string, ...sizes: number[]): Promise<number> {
  const before = (await readFeed(stores)).at(-1)?.sequence ?? 0;
  for (const bytes of sizes) {
    const data = { sale: { saleId: ofSale, name: 'x'.repeat(bytes) } };
    await recordShopEvent(stores.pool, { type: 'sale.changed', saleId: ofSale, subject: ofSale, data });
  }
  await dispatchEvents(stores);
  return before;
}

async function readPage(after: number, filter: EventFilter = {}): Promise<FeedPage> {
  const page = await readEvents(stores, { after, limit: 500, filter });
  if (page.kind !== 'page') throw new Error(page.kind);
  return page;
}

const sequencesOf = ({ events }: FeedPage): number[] => events.map(({ sequence }) => sequence);

test('a page ends before its bytes are too many, and the next goes on with what did not fit', async () => {
  const before = await record(saleId, BYTES, BYTES);
  await stores.orders.storeOrder(buildOrder({ saleId }), 'due');
  await record(saleId, BYTES, 10);
  const [first, second] = [await readPage(before), await readPage(before + 3)];

  // The order lies between them.
  expect([sequencesOf(first), first.next]).toEqual([[1, 2, 3].map((i) => before + i), before + 3]);
  expect([sequencesOf(second), second.next]).toEqual([[4, 5].map((i) => before + i), before + 5]);
});

test('a page that nothing fits has one event, whatever its size', async () => {
  const before = await record(saleId, 2 * MAX_EVENTS_PAGE_BYTES, 10, 2 * MAX_EVENTS_PAGE_BYTES);
  for (const i of [1, 2, 3]) {
    const page = await readPage(before + i - 1);
    expect([sequencesOf(page), page.next]).toEqual([[before + i], before + i]);
  }
});

test('a reader of one sale is stopped by the bytes of that sale, and searches on behind those of others', async () => {
  const [mine, other] = [uniqueSaleId(), uniqueSaleId()];
  const before = await record(mine, 10);
  await record(other, BYTES, BYTES, BYTES, BYTES);
  await record(mine, BYTES, BYTES, BYTES);
  const seen: number[][] = [];
  for (let after = before, last = before + 1; after < last;) {
    const page = await readPage(after, { saleId: mine });
    seen.push(sequencesOf(page));
    [after, last] = [page.next, page.last];
  }

  expect(seen.flat()).toEqual([1, 6, 7, 8].map((i) => before + i));
  expect(Math.max(...seen.map((page) => page.length))).toBe(3);
});

test('what is pushed is found, however large the events between are', async () => {
  const before = await record(saleId, BYTES, BYTES, BYTES, 10, 2 * MAX_EVENTS_PAGE_BYTES, 10);
  const wanted = [1, 3, 4, 5, 6].map((i) => before + i);
  const source = createEventSource(stores);

  expect([...(await source.find(wanted)).keys()].toSorted((a, b) => a - b)).toEqual(wanted);
  // Again, and with one that is yet to come: what is remembered or not, each look ends.
  expect([...(await source.find([...wanted, before + 900])).keys()].toSorted((a, b) => a - b)).toEqual(
    wanted,
  );
});

test('many small events are one page', async () => {
  const before = await record(saleId, ...Array.from({ length: 45 }, () => 10));
  expect(sequencesOf(await readPage(before))).toHaveLength(45);
});
