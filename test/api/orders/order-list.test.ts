/** A shopper's own orders of a day: pages, the newest of what is known, and what hostile requests get. */

import { ulid } from 'ulidx';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ordersReply } from '../../../src/api/calls/find-order.ts';
import { buildOrder, buildSale } from '../../support/factories.ts';
import { refusalOf, type Shopper } from '../../support/shopper.ts';
import { openApi, openMysqlAway, type TestApi } from '../open-api.ts';

let api: TestApi;
let saleId: string;
beforeAll(async () => {
  api = await openApi();
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100, limitPerUser: null }];
  ({ saleId } = await api.stores.openSale(buildSale({ skus })));
});
afterAll(() => api.close());

/** The orders of a shopper whom no other test knows, accepted at these times. */
async function openHistory(...times: string[]): Promise<{ shopper: Shopper; orderNos: string[] }> {
  const shopper = await api.shopper();
  const orderNos = [];
  for (const time of times) {
    const order = buildOrder({ saleId, userId: shopper.userId, reservedAtMs: Date.parse(time) });
    await api.stores.orders.storeOrder(order, 'due');
    orderNos.push(order.orderNo);
  }
  return { shopper, orderNos };
}

const list = async (shopper: Shopper, query: string) =>
  ordersReply.parse((await shopper.call('GET', `/v1/orders?${query}`)).body);

async function numbersOf(shopper: Shopper, query: string): Promise<string[]> {
  return (await list(shopper, query)).orders.map(({ orderNo }) => orderNo);
}

/** A query for the day on which the order was accepted. */
async function dayOf(shopper: Shopper, orderNo: string): Promise<string> {
  return `date=${(await shopper.readOrder(orderNo)).reservedAt.slice(0, 10)}`;
}

describe('a day', () => {
  test('has the orders from midnight to midnight in UTC, in the order of their times', async () => {
    const { shopper, orderNos } = await openHistory(
      '2026-11-20T23:59:59.999Z',
      '2026-11-21T23:59:59.999Z',
      '2026-11-21T00:00:00.000Z',
      '2026-11-22T00:00:00.000Z',
    );
    const [before, last, first, after] = orderNos;

    expect(await numbersOf(shopper, 'date=2026-11-21')).toEqual([first, last]);
    expect(await numbersOf(shopper, 'date=2026-11-20')).toEqual([before]);
    expect(await numbersOf(shopper, 'date=2026-11-22')).toEqual([after]);
    expect(await list(shopper, 'date=2026-11-19')).toEqual({ orders: [], next: null });
  });

  test('comes page by page, each order once, also where several have the same time', async () => {
    const at = (ms: number) => `2026-11-21T10:00:00.00${ms}Z`;
    const { shopper, orderNos } = await openHistory(at(1), at(1), at(1), at(2), at(3));
    const seen: string[] = [];
    let query: string | undefined = 'date=2026-11-21&limit=2';
    for (let page = 0; query !== undefined && page < 4; page += 1) {
      const { orders, next } = await list(shopper, query);
      seen.push(...orders.map(({ orderNo }) => orderNo));
      query = next === null ? undefined : `date=2026-11-21&limit=2&after=${next}`;
    }

    expect(seen.toSorted()).toEqual(orderNos.toSorted());
    expect(seen.slice(3)).toEqual(orderNos.slice(3));
  });

  test("never has another shopper's orders, not even after a place of theirs", async () => {
    const { orderNos } = await openHistory('2026-11-21T10:00:00.000Z');
    const other = await openHistory('2026-11-21T11:00:00.000Z');
    const place = `${Date.parse('2026-11-21T10:00:00.000Z')}.${orderNos[0]}`;

    expect(await numbersOf(other.shopper, 'date=2026-11-21')).toEqual(other.orderNos);
    expect(await numbersOf(other.shopper, `date=2026-11-21&after=${place}`)).toEqual(other.orderNos);
  });

  test('goes on from its beginning after a place before it, and is empty after one behind it', async () => {
    const { shopper, orderNos } = await openHistory('2026-11-21T10:00:00.000Z');

    expect(await numbersOf(shopper, `date=2026-11-21&after=0.${orderNos[0]}`)).toEqual(orderNos);
    expect(await numbersOf(shopper, `date=2026-11-21&after=9999999999999.${orderNos[0]}`)).toEqual([]);
  });
});

describe('what an order shows', () => {
  test('is what a look at it alone shows, and an order appears once it is stored', async () => {
    const shopper = await api.shopper();
    const orderNo = await shopper.buy(saleId);
    const day = await dayOf(shopper, orderNo);
    expect(await list(shopper, day)).toEqual({ orders: [], next: null });

    await api.store(orderNo);

    expect((await list(shopper, day)).orders).toEqual([await shopper.readOrder(orderNo)]);
  });

  test('is not taken back by the next look at it alone', async () => {
    const shopper = await api.shopper();
    const orderNo = await shopper.buy(saleId);
    await api.store(orderNo);
    const day = await dayOf(shopper, orderNo);
    // As another process commits it a moment before it is projected.
    await api.stores.orders.requestCancel(orderNo);

    const [order] = (await list(shopper, day)).orders;

    expect(order).toMatchObject({ orderNo, version: 2, closing: true });
    expect(await shopper.readOrder(orderNo)).toEqual(order);
  });

  test('comes from MySQL while Redis does not answer, and from the projection where that is newer', async () => {
    const shopper = await api.shopper();
    const orderNo = await shopper.buy(saleId);
    await api.store(orderNo);
    const day = await dayOf(shopper, orderNo);
    const { reservations } = api.stores;
    const away = () => Promise.reject(new Error('Command timed out'));
    const cut = await api.withParts({ reservations: { ...reservations, lookUp: away } });
    try {
      const cutOff = await cut.shopper(shopper.userId);
      expect((await list(cutOff, day)).orders).toMatchObject([{ orderNo, version: 1 }]);
      await reservations.project(orderNo, { status: 'paid', version: 7, payment: 'applied', reason: null });
      expect((await list(shopper, day)).orders).toMatchObject([{ orderNo, version: 7 }]);
    } finally {
      await cut.close();
    }
  });
});

test('while MySQL is away the list is refused with when to ask again', async () => {
  const { pool, ...parts } = await openMysqlAway();
  const app = await api.withParts({ pool, ...parts });
  try {
    const reply = await (await app.shopper()).call('GET', '/v1/orders?date=2026-11-21');
    expect(refusalOf(reply)).toBe('503 status_unavailable');
    expect(reply.headers.get('retry-after')).toBe('1');
  } finally {
    await app.close();
    await pool.end();
  }
});

const someOrderNo = `demo-0-1-${ulid()}`;

test.each([
  '',
  'date=',
  'date=today',
  'date=2026-02-30',
  'date=2026-11-21T10:00:00Z',
  'date=1999-12-31',
  'date=2100-01-01',
  'date=9999-12-31',
  'date=0000-01-01',
  'date=2026-11-21&date=2026-11-22',
  'date[]=2026-11-21',
  'date=2026-11-21%00',
  'date=2026-11-21&limit=0',
  'date=2026-11-21&limit=101',
  'date=2026-11-21&limit=-1',
  'date=2026-11-21&limit=1e1',
  'date=2026-11-21&limit=',
  'date=2026-11-21&after=',
  `date=2026-11-21&after=${someOrderNo}`,
  'date=2026-11-21&after=0.x',
  `date=2026-11-21&after=-1.${someOrderNo}`,
  `date=2026-11-21&after=99999999999999.${someOrderNo}`,
  `date=2026-11-21&after=0.${someOrderNo}&after=0.${someOrderNo}`,
  'date=2026-11-21&userId=somebody-else',
  'date=2026-11-21&status=paid',
  `after=0.${someOrderNo}`,
])('a list is asked for by a day, with each value as it must be: %s', async (query) => {
  const shopper = await api.shopper();
  expect(refusalOf(await shopper.call('GET', `/v1/orders?${query}`))).toBe('400 invalid_request');
});

test('a list needs a token, and its path is exact', async () => {
  const shopper = await api.shopper();
  const anyone = { authorization: 'Bearer no' };
  const path = '/v1/orders?date=2026-11-21';
  expect(refusalOf(await shopper.call('GET', path, { headers: anyone }))).toBe('401 unauthorized');
  expect(refusalOf(await shopper.call('PUT', path))).toBe('405 method_not_allowed');
});
