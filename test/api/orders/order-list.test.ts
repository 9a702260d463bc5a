/** A shopper's own orders of a day or a sale: pages, the newest of what is known, and hostile requests. */

import { ulid } from 'ulidx';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { ordersReply } from '../../../src/api/calls/my-orders.ts';
import { saleKeys } from '../../../src/redis/keys.ts';
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
    expect(await list(shopper, 'date=2026-11-19')).toEqual({ orders: [], next: null, complete: true });
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
  test('is what a look at it alone shows, before the order is stored and afterwards', async () => {
    const shopper = await api.shopper();
    const orderNo = await shopper.buy(saleId);
    const day = await dayOf(shopper, orderNo);
    const alone = { next: null, complete: true };
    expect(await list(shopper, day)).toEqual({ orders: [await shopper.readOrder(orderNo)], ...alone });

    await api.store(orderNo);

    expect(await list(shopper, day)).toEqual({ orders: [await shopper.readOrder(orderNo)], ...alone });
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
    const cutOff = await cut.shopper(shopper.userId);
    const seen = await list(cutOff, day);
    expect(seen.orders).toMatchObject([{ orderNo, version: 1 }]);
    expect(seen.complete).toBe(true);
    await reservations.project(orderNo, { status: 'paid', version: 7, payment: 'applied', reason: null });
    expect((await list(shopper, day)).orders).toMatchObject([{ orderNo, version: 7 }]);
  });
});

describe('a sale', () => {
  const openSale = () => api.stores.openSale(buildSale({ skus: [lamps()] }));
  const lamps = () => ({ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100, limitPerUser: null });

  /** Page by page, with what happens before each. */
  async function walk(shopper: Shopper, query: string, before: (page: number) => Promise<void>) {
    const seen: string[] = [];
    let next: string | null = '';
    for (let page = 0; next !== null; page += 1) {
      await before(page);
      const after: string = next === '' ? '' : `&after=${next}`;
      const answer = await list(shopper, `${query}&limit=1${after}`);
      seen.push(...answer.orders.map(({ orderNo }) => orderNo));
      ({ next } = answer);
    }
    return seen;
  }

  test('has the orders of it alone, stored or not, in the order of their times', async () => {
    const shopper = await api.shopper();
    const [one, other] = [await openSale(), await openSale()];
    const first = await shopper.buy(one.saleId);
    const elsewhere = await shopper.buy(other.saleId);
    const second = await shopper.buy(one.saleId);
    await (await api.shopper()).buy(one.saleId);
    await api.store(second);
    const day = await dayOf(shopper, first);

    expect(await numbersOf(shopper, `saleId=${one.saleId}`)).toEqual([first, second]);
    expect(await numbersOf(shopper, `saleId=${other.saleId}&${day}`)).toEqual([elsewhere]);
    expect(await numbersOf(shopper, day)).toEqual([first, elsewhere, second]);
    expect(await numbersOf(shopper, `saleId=${one.saleId}&date=2026-11-20`)).toEqual([]);
  });

  test('neither skips nor repeats an order that is stored between two pages', async () => {
    const shopper = await api.shopper();
    const sale = await openSale();
    const orderNos = [];
    for (let i = 0; i < 4; i += 1) orderNos.push(await shopper.buy(sale.saleId));
    const [day] = [await dayOf(shopper, orderNos[0] ?? '')];
    // The one before the page, the one behind it, and one far behind.
    const stored = [orderNos[3], orderNos[0], orderNos[2]];

    for (const query of [`saleId=${sale.saleId}`, day])
      expect(
        await walk(shopper, query, async (page) => {
          const orderNo = stored[page];
          if (orderNo !== undefined) await api.store(orderNo);
        }),
      ).toEqual(orderNos);
  });

  test('keeps an order that has ended, which Redis lists no more', async () => {
    const shopper = await api.shopper();
    const sale = await openSale();
    const orderNo = await shopper.buy(sale.saleId);
    await api.store(orderNo);
    await api.stores.orders.cancel(orderNo, 'shopper_request', { force: true });
    await api.stores.reservations.release(orderNo);

    const { orders, complete } = await list(shopper, `saleId=${sale.saleId}`);

    expect(orders).toMatchObject([{ orderNo, status: 'cancelled' }]);
    expect(complete).toBe(true);
  });

  test('is what MySQL has of it while Redis does not answer, and says that it may not be all', async () => {
    const shopper = await api.shopper();
    const sale = await openSale();
    const [stored, queued] = [await shopper.buy(sale.saleId), await shopper.buy(sale.saleId)];
    await api.store(stored);
    const day = await dayOf(shopper, queued);
    const { reservations } = api.stores;
    const away = () => Promise.reject(new Error('Command timed out'));
    const cut = await api.withParts({
      reservations: { ...reservations, lookUp: away, readOpenOrders: away },
    });
    onTestFinished(async () => {
      await cut.close();
      await api.stores.pool.query('DELETE FROM projection_doubts');
    });
    const cutOff = await cut.shopper(shopper.userId);
    for (const query of [`saleId=${sale.saleId}`, day]) {
      const { orders, complete } = await list(cutOff, query);
      expect(orders.map(({ orderNo }) => orderNo)).toEqual([stored]);
      expect(complete).toBe(false);
    }
  });

  test('may not be all while the data of Redis are lost, and is all once they were removed for good', async () => {
    const shopper = await api.shopper();
    const sale = await openSale();
    const orderNo = await shopper.buy(sale.saleId);
    await api.store(orderNo);
    const day = await dayOf(shopper, orderNo);
    const keys = await api.stores.redis.keys(`*{${sale.saleId}.0}*`);
    await api.stores.redis.del(...keys);

    for (const query of [`saleId=${sale.saleId}`, day])
      expect(await list(shopper, query)).toMatchObject({ orders: [{ orderNo }], complete: false });

    await api.stores.pool.query(
      'UPDATE sales SET settled_at = NOW(3), redis_cleaned_at = NOW(3) WHERE sale_id = ?',
      [sale.saleId],
    );
    for (const query of [`saleId=${sale.saleId}`, day])
      expect(await list(shopper, query)).toMatchObject({ orders: [{ orderNo }], complete: true });
  });

  test('of a shopper with more than twenty open orders may not be all, as Redis lists no more of them', async () => {
    const shopper = await api.shopper();
    const sale = await openSale();
    const orderNos: string[] = [];
    for (let i = 0; i < 20; i += 1) orderNos.push(await shopper.buy(sale.saleId));
    expect(await list(shopper, `saleId=${sale.saleId}`)).toMatchObject({ complete: true });
    orderNos.push(await shopper.buy(sale.saleId));
    expect(await list(shopper, `saleId=${sale.saleId}`)).toMatchObject({ complete: false });
    // Nor once the list is shorter again: what went from it is not stored.
    await api.stores.reservations.release(orderNos[20] ?? '');
    expect(await list(shopper, `saleId=${sale.saleId}`)).toMatchObject({ complete: false });

    for (const orderNo of orderNos.slice(0, 20)) await api.store(orderNo);

    expect(await numbersOf(shopper, `saleId=${sale.saleId}`)).toEqual(orderNos.slice(0, 20));
  });

  test('of a shopper with more than twenty open orders is all once those are stored that went from the list', async () => {
    const shopper = await api.shopper();
    const sale = await openSale();
    const orderNos: string[] = [];
    for (let i = 0; i < 21; i += 1) orderNos.push(await shopper.buy(sale.saleId));
    for (const orderNo of orderNos) await api.store(orderNo);
    expect(await list(shopper, `saleId=${sale.saleId}`)).toMatchObject({ complete: false });
    await api.stores.redis.xtrim(saleKeys({ saleId: sale.saleId, shard: 0 }).outbox, 'MAXLEN', 0);
    // Others wait meanwhile.
    await (await api.shopper()).buy(sale.saleId);
    expect(await list(shopper, `saleId=${sale.saleId}`)).toMatchObject({ complete: true });

    for (const orderNo of orderNos) await api.stores.reservations.release(orderNo);

    expect(await list(shopper, `saleId=${sale.saleId}`)).toMatchObject({ complete: true });
  });

  test('may not be all while the data of its sale are made again, nor for a while afterwards', async () => {
    const shopper = await api.shopper();
    const sale = await openSale();
    const orderNo = await shopper.buy(sale.saleId);
    await api.store(orderNo);
    const queries = [`saleId=${sale.saleId}`, await dayOf(shopper, orderNo)];
    const set = (value: string) =>
      api.stores.pool.query(`UPDATE sales SET ${value} WHERE sale_id = ?`, [sale.saleId]);

    for (const value of ['rebuilding_since = NOW(3)', 'rebuilding_since = NULL, rebuilt_at = NOW(3)']) {
      await set(value);
      for (const query of queries) expect(await list(shopper, query)).toMatchObject({ complete: false });
    }
    await set('rebuilt_at = NOW(3) - INTERVAL 1 MINUTE');
    // An entry of before may be of an order that is not on its list yet.
    for (const query of queries) expect(await list(shopper, query)).toMatchObject({ complete: false });
    await api.stores.redis.del(saleKeys({ saleId: sale.saleId, shard: 0 }).outbox);
    for (const query of queries) expect(await list(shopper, query)).toMatchObject({ complete: true });
  });

  test('that there is not has no orders', async () => {
    const shopper = await api.shopper();
    expect(await list(shopper, 'saleId=never-was')).toEqual({ orders: [], next: null, complete: true });
  });
});

test('while MySQL is away the list is refused with when to ask again', async () => {
  const { pool, ...parts } = await openMysqlAway();
  const app = await api.withParts({ pool, ...parts });
  onTestFinished(async () => {
    await app.close();
    await pool.end();
  });
  const reply = await (await app.shopper()).call('GET', '/v1/orders?date=2026-11-21');
  expect(refusalOf(reply)).toBe('503 status_unavailable');
  expect(reply.headers.get('retry-after')).toBe('1');
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

test.each([
  'saleId=',
  'saleId=Summer',
  'saleId=summer&saleId=winter',
  'saleId=summer&status=paid',
  'limit=10',
  'orderNo=',
  `orderNo=${someOrderNo},`,
  `orderNo=${someOrderNo}%00`,
  `orderNo=${someOrderNo}&saleId=demo`,
  `orderNo=${someOrderNo}&date=2026-11-21`,
  `orderNo=${someOrderNo}&limit=1`,
  `orderNo=${someOrderNo}&after=0.${someOrderNo}`,
  `orderNo=${someOrderNo}&orderNo=${someOrderNo}`,
  `orderNo=${Array.from({ length: 101 }, (_, i) => i).join(',')}`,
])('orders are asked for by numbers, or by a sale and a day, and by nothing beside: %s', async (query) => {
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
