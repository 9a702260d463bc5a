/** `CONTENT` says of each field of an order what the service does with it. */

import { decodeJwt } from 'jose';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  askedOfOrder,
  CONTENT,
  fingerprintOf,
  shownContent,
  type Order,
  showOrder,
} from '../../src/orders/content.ts';
import { createOrderSigner } from '../../src/providers/signed-order.ts';
import { orderKeys } from '../../src/redis/keys.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { selectOne } from '../support/rows.ts';
import { JWT_SECRET } from '../support/shopper.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

let stores: TestStores;
/** One that has every field. */
let order: Order;
/** What Redis and MySQL have of it, as they have it, and the order that is read from there. */
let redis: { raw: object; carried: object; read: Order | undefined };
let mysql: { raw: object; carried: object; read: Order | undefined };
/** As MySQL has it later. */
let afterClearing: { contact: Order | undefined; person: Order | undefined };

beforeAll(async () => {
  stores = await openTestStores();
  const { saleId } = await stores.openSale(buildSale());
  order = buildOrder({
    saleId,
    reference: 'R-1',
    metadata: { channel: 'app' },
    charges: [{ code: 'shipping', name: 'Shipping', amount: 500 }],
    total: 5_400,
    reservedAtMs: Date.now() - 9 * DAY_MS,
    ticket: { id: 'digest', endsAtMs: Date.now() + DAY_MS },
    traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  });
  const { orderNo } = order;
  expect(Object.keys(order).toSorted()).toEqual(CONTENT.map(({ name }) => name).toSorted());

  await stores.reservations.reserveAgain(order);
  const hash = await stores.redis.hgetall(orderKeys(orderNo).order);
  const ofRedis = await stores.reservations.readOrder(orderNo);
  redis = { raw: hash, carried: parseObject(hash['carried']), read: ofRedis?.order };

  await stores.orders.storeOrder(order, 'started');
  const row = await selectOne(stores.pool, 'SELECT * FROM orders WHERE order_no = ?', [orderNo]);
  const read = async () => (await stores.orders.read(orderNo))?.order;
  mysql = { raw: row, carried: parseObject(row['carried']), read: await read() };

  await stores.orders.cancel(orderNo, 'shopper_request', { force: true });
  await stores.retention.clearContacts(DAY_MS);
  const contact = await read();
  // As it was before its contact was cleared.
  await stores.pool.query('UPDATE orders SET carried = ? WHERE order_no = ?', [row['carried'], orderNo]);
  await stores.persons.replace([orderNo], 'erased-1');
  afterClearing = { contact, person: await read() };
});

function parseObject(text: unknown): object {
  const parsed: unknown = JSON.parse(String(text));
  if (typeof parsed !== 'object' || parsed === null) throw new Error(`no object: ${String(text)}`);
  return parsed;
}

const snakeCase = (name: string): string =>
  name.replace(/Ms$/, '').replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

describe.each(CONTENT)('$name', ({ name, kept, signed, identifies, clearedWith }) => {
  const of = (it: object | undefined): unknown =>
    it && Object.hasOwn(it, name) ? Reflect.get(it, name) : undefined;

  test('is kept as it says, and comes back as it was', () => {
    const inRedis = snakeCase(name) in redis.raw;
    // The orderNo is the key, and the lines have a table.
    expect(inRedis).toBe(kept === 'own' && name !== 'orderNo');
    expect(name in redis.carried).toBe(kept !== 'own');
    expect(of(redis.read)).toEqual(of(order));

    const ownColumn = Object.keys(mysql.raw).some((column) => snakeCase(name) === column.replace(/_ms$/, ''));
    expect(ownColumn).toBe(kept !== 'carried' && name !== 'items');
    expect(name in mysql.carried).toBe(kept === 'carried');
    expect(of(mysql.read)).toEqual(of(order));
  });

  test('is signed where it says', async () => {
    const text = await createOrderSigner([JWT_SECRET]).sign(order);
    expect(name in decodeJwt(text)).toBe(signed === true);
  });

  test('makes another request where it says', () => {
    const others = Object.fromEntries(Object.entries(order).filter(([other]) => other !== name));
    const needed = { saleId: 'other', items: [{ sku: 'other', quantity: 1 }] };
    const fingerprint = fingerprintOf({ ...needed, ...others });
    expect(fingerprint !== fingerprintOf(order)).toBe(identifies === true);
  });

  test('is cleared when it says', () => {
    const isKept = (later: Order | undefined) => JSON.stringify(of(later)) === JSON.stringify(of(order));
    expect(isKept(afterClearing.contact)).toBe(clearedWith !== 'contact');
    expect(isKept(afterClearing.person)).toBe(clearedWith === undefined);
  });
});

test('of what an order carries, answers and events show what `shownContent` has, and no more', () => {
  const state = { status: 'queued', version: 0, payment: 'none', reason: null } as const;
  const shown = Object.keys(showOrder(order, state));
  const names = CONTENT.filter(({ kept }) => kept !== 'own').map(({ name }) => name);
  expect(names.filter((name) => shown.includes(name)).toSorted()).toEqual(
    Object.keys(shownContent).toSorted(),
  );
});

test('beside its sale and its cart a shopper says of an order what is given by shoppers', () => {
  const given = CONTENT.filter(({ givenBy, kept }) => givenBy === 'shopper' && kept !== 'own');
  expect(Object.keys(askedOfOrder).toSorted()).toEqual(given.map(({ name }) => name).toSorted());
});
