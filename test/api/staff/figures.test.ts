/** The figures of a sale, as a console gets them while a crowd buys. */

import { beforeAll, expect, test } from 'vitest';
import { figuresReply } from '../../../src/api/calls/figures.ts';
import type { Stores } from '../../../src/stores/open.ts';
import { dispatchEvents } from '../../support/events.ts';
import { buildSale } from '../../support/factories.ts';
import { buildPayment } from '../../support/payment-notices.ts';
import { openShop } from '../../support/shop.ts';
import { orderOf, problemOf, refusalOf, send } from '../../support/shopper.ts';
import { openStaffWorld, type StaffWorld } from './staff-world.ts';

let world: StaffWorld;

/** A process counts refusals of the sales that it knows. */
const meet = (url: string, saleId: string) => send(`${url}/v1/sales/${saleId}`, 'GET');

beforeAll(async () => {
  world = await openStaffWorld();
});

test('a crowd that buys, pays, is refused and ends is in the figures as the stores count it', async () => {
  const { api, stores } = world;
  const { saleId } = await stores.openSale(buildSale({ paymentWindowMs: 10 * 60_000 }));
  const shoppers = await Promise.all(Array.from({ length: 14 }, () => api.shopper()));
  const lamps = { saleId, items: [{ sku: 'lamp', quantity: 1 }] };
  await meet(api.url, saleId);
  const replies = await Promise.all(shoppers.map((shopper) => shopper.placeOrder(lamps)));
  const bought = replies.filter(({ status }) => status === 202).map((reply) => orderOf(reply).orderNo);
  const [, , , , ...stored] = bought;
  for (const orderNo of stored) await api.store(orderNo);
  const [paid = '', refunded = '', cancelled = ''] = stored;
  for (const orderNo of [paid, refunded]) {
    const reserved = await stores.reservations.readOrder(orderNo);
    if (reserved) await stores.payments.record('sandbox', buildPayment(reserved.order));
    await stores.reservations.confirm(orderNo);
  }
  await stores.orders.cancel(cancelled, 'payment_timeout', { force: true });
  await stores.reservations.release(cancelled);
  await dispatchEvents(stores);
  await api.noteRefused();

  const figures = figuresReply.parse((await world.get(`sales/${saleId}/figures?by=hour`)).body);

  const sale = await stores.saleStock.read(saleId);
  const units = sale?.skus.map(({ sku, total, available, held, sold }) => {
    return { sku, total, available, held, sold, taken: sku === 'lamp' ? 9_800 : 0 };
  });
  expect(bought).toHaveLength(10);
  expect(figures).toMatchObject({
    skus: units,
    money: { taken: 9_800, refunded: 0, charges: [] },
    orders: { accepted: 6, paid: 2, endedUnpaid: { payment_timeout: 1 } },
    live: {
      unpaidHolds: { overdue: 0, later: 0 },
      refused: { byReason: { sold_out: 4 } },
    },
  });
  const { points, live } = figures;
  const sum = (of: (point: (typeof points)[number]) => number) =>
    points.reduce((total, point) => total + of(point), 0);
  expect([sum(({ accepted }) => accepted), sum(({ paid: orders }) => orders)]).toEqual([6, 2]);
  expect(sum(({ refused }) => refused['sold_out'] ?? 0)).toBe(4);
  expect(live?.unpaidHolds.byMinute.reduce((total, { holds }) => total + holds, 0)).toBe(7);
});

test('a refusal of a sale that does not exist is counted nowhere', async () => {
  const shopper = await world.api.shopper();
  const before = await world.stores.redis.keys('*:refused:*');
  await shopper.placeOrder({ saleId: 'made-up', items: [{ sku: 'lamp', quantity: 1 }] });
  await world.api.noteRefused();
  expect(await world.stores.redis.keys('*:refused:*')).toEqual(before);
});

test('refusals that Redis did not take are not counted twice, and the figures say since when they are complete', async () => {
  const { saleId } = await world.stores.openSale(buildSale());
  let isAway = true;
  const liveFigures: Stores['liveFigures'] = {
    ...world.stores.liveFigures,
    noteRefused: (...args) =>
      isAway ? Promise.reject(new Error('away')) : world.stores.liveFigures.noteRefused(...args),
  };
  const app = await world.api.withParts({ liveFigures });
  const shopper = await app.shopper();
  await meet(app.url, saleId);
  const refuse = () => shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 9 }] });
  await refuse();
  await app.noteRefused();
  isAway = false;
  await refuse();
  const nowMs = await world.stores.saleStock.readTimeMs();
  await app.noteRefused();
  await app.close();

  const { refused } = await world.stores.liveFigures.readLive(saleId, 'minute', 0, 0);
  expect(Object.values(refused.sums)).toEqual([1]);
  expect(refused.sinceMs).toBeGreaterThan(nowMs - 2_000);
});

test('ten consoles that look at once cost one read', async () => {
  const { saleId } = await world.stores.openSale(buildSale());
  let reads = 0;
  const saleFigures: Stores['saleFigures'] = {
    ...world.stores.saleFigures,
    readTotals(...args) {
      reads += 1;
      return world.stores.saleFigures.readTotals(...args);
    },
  };
  const app = await world.api.withParts({ saleFigures });
  const { asStaff } = openShop({ ...app, stores: world.stores });
  const look = () => asStaff('GET', `sales/${saleId}/figures`, undefined, { role: 'operator', key: null });
  const replies = await Promise.all(Array.from({ length: 10 }, look));
  await app.close();

  expect(replies.map(({ status }) => status)).toEqual(Array.from({ length: 10 }, () => 200));
  expect(reads).toBe(1);
});

test.each([
  ['by=minute&from=2026-01-01T00:00:00Z&until=2026-01-02T00:01:00Z', 'at most 1440 points before until'],
  ['from=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z', 'not after until'],
])('a range of %s is refused', async (query, message) => {
  const { saleId } = await world.stores.openSale(buildSale());
  const reply = await world.get(`sales/${saleId}/figures?${query}`);
  expect(refusalOf(reply)).toBe('400 invalid_request');
  expect(problemOf(reply)).toMatchObject({ faults: [{ path: 'from', message }] });
});

test('a sale that does not exist has no figures', async () => {
  expect(refusalOf(await world.get('sales/nothing-of-the-kind/figures'))).toBe('404 sale_not_found');
});

test('while Redis is away the figures are those of MySQL', async () => {
  const { saleId } = await world.stores.openSale(buildSale());
  await world.stored(saleId);
  await dispatchEvents(world.stores);
  const away = () => Promise.reject(new Error('away'));
  const app = await world.api.withParts({
    liveFigures: { ...world.stores.liveFigures, readLive: away },
    saleStock: { ...world.stores.saleStock, read: away },
  });
  const { asStaff } = openShop({ ...app, stores: world.stores });
  const { body } = await asStaff('GET', `sales/${saleId}/figures`, undefined, {
    role: 'operator',
    key: null,
  });
  await app.close();
  expect(body).toMatchObject({ orders: { accepted: 1 }, live: null });
  expect(body).toMatchObject({
    skus: [
      { sku: 'lamp', held: 1 },
      { sku: 'mug', held: 0 },
    ],
  });
});
