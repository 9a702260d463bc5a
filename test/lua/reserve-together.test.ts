/** Orders of one call of `reserve` are answered as if they came one by one. */

import * as fc from 'fast-check';
import { ulid } from 'ulidx';
import { beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { formatOrderNo } from '../../src/orders/order.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import type { Sale } from '../../src/sales/sale.ts';
import { buildSale } from '../support/factories.ts';
import { assertProperty } from '../support/property.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import {
  buildReserveCall,
  callRelease,
  callReserve,
  callReserveTogether,
  snapshot,
  type ReserveCall,
} from './raw-scripts.ts';
import { expectConservation, readRedisSale } from './redis-sale.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const SKUS = [
  { sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 40, limitPerUser: 6 },
  { sku: 'mug', name: 'Mug', unitPrice: 1_450, total: 30, limitPerUser: null },
  { sku: 'a:b%', name: 'Odd', unitPrice: 1, total: 6, limitPerUser: 5 },
];
const CODES = SKUS.map(({ sku }) => sku);
const HOUR_MS = 60 * 60 * 1000;
/** Far from the moment of the test, so that no case depends on when it runs. */
const [PAST_MS, FUTURE_MS] = [Date.now() - HOUR_MS, Date.now() + HOUR_MS];

const line = fc.record({
  sku: fc.constantFrom(...CODES, ...CODES, ...CODES, 'unknown'),
  quantity: fc.integer({ min: 1, max: 3 }),
});
const ticket = fc.oneof(
  { weight: 3, arbitrary: fc.constant({ ticketId: '', ticketEndsAtMs: 0, isSingleUse: false }) },
  {
    weight: 2,
    arbitrary: fc.record({
      // Few, so that some come twice.
      ticketId: fc.constantFrom('t1', 't2', 't3'),
      ticketEndsAtMs: fc.constantFrom(PAST_MS, FUTURE_MS, FUTURE_MS, FUTURE_MS),
      isSingleUse: fc.constantFrom(true, true, false),
    }),
  },
);
const order = fc.record({
  userId: fc.constantFrom('ada', 'bo', 'cy@example.com', 'di', 'eve'),
  idempotencyKey: fc.integer({ min: 1, max: 25 }).map(String),
  fingerprint: fc.constantFrom('f', 'f', 'g'),
  lines: fc.uniqueArray(line, { minLength: 1, maxLength: 3, selector: ({ sku }) => sku }),
  epoch: fc.oneof({ weight: 15, arbitrary: fc.constant('1') }, { weight: 1, arbitrary: fc.constant('2') }),
  carried: fc.constantFrom('{}', '{"reference":"R"}'),
  chargesTotal: fc.constantFrom(0, 0, 0, 100, -4_900),
  expectedTotal: fc.constantFrom<number | ''>('', '', '', 0, 4_900),
  ticket,
  /** Points at an order sent so far, which is sent again instead. */
  again: fc.oneof({ weight: 6, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: fc.nat(200) }),
});
/** How the sale is during a call. */
const rules = fc.oneof(
  { weight: 9, arbitrary: fc.constant<Record<string, string>>({}) },
  {
    weight: 4,
    arbitrary: fc.constantFrom<Record<string, string>>(
      { paused: '1' },
      { epoch: '2' },
      { ticket: '1' },
      { verification: '{}' },
      { 'off:mug': '1' },
      { limit_per_user: '4' },
      { max_unpaid: '1' },
      { limit_per_user: '4' },
      { opens_at: String(FUTURE_MS) },
      { closes_at: String(PAST_MS) },
      { suspended: '1' },
      { run_id: 'another' },
    ),
  },
);
const round = fc.record({
  rules,
  orders: fc.oneof(
    { weight: 4, arbitrary: fc.array(order, { minLength: 1, maxLength: 8 }) },
    { weight: 1, arbitrary: fc.array(order, { minLength: 20, maxLength: 64 }) },
  ),
  /** An order sent so far is released afterwards. */
  released: fc.nat(200),
});

/** One purchase, and what it is in each of the two sales. */
type Twin = readonly [together: ReserveCall, alone: ReserveCall];

/** The same orders in as many calls, which Redis takes in their order, as they come by one connection. */
const callReserveOneByOne = (calls: readonly ReserveCall[]): Promise<string[][]> =>
  Promise.all(calls.map((call) => callReserve(stores.redis, call)));

/** Runs `during` with these fields of the hashes of the sales. */
async function withRules(
  saleIds: readonly string[],
  fields: Record<string, string>,
  during: () => Promise<void>,
): Promise<void> {
  const keys = saleIds.map((saleId) => saleKeys({ saleId, shard: 0 }).sale);
  const before = await Promise.all(keys.map((sale) => stores.redis.hgetall(sale)));
  if (Object.keys(fields).length > 0) await Promise.all(keys.map((sale) => stores.redis.hset(sale, fields)));
  await during();
  for (const [i, sale] of keys.entries()) {
    await stores.redis
      .multi()
      .del(sale)
      .hset(sale, before[i] ?? {})
      .exec();
  }
}

/** The replies without what differs between two sales: their ids, and the moment. */
function normalReplies(saleId: string, replies: readonly string[][]): string[][] {
  return replies.map((values) =>
    values.map((value, i) => {
      if (values[0] === 'reserved' && i === 4) return 'a moment';
      if (values[0] === 'reserved' && i === 6) return sortedJson(value);
      return value.replaceAll(saleId, 'SALE');
    }),
  );
}

/** The order in which Lua writes the fields of an object is not fixed. */
function sortedJson(text: string): string {
  return JSON.stringify(
    z
      .array(z.record(z.string(), z.unknown()))
      .parse(JSON.parse(text))
      .map((item) => Object.entries(item).toSorted(([a], [b]) => a.localeCompare(b))),
  );
}

/** All keys of a sale in the same sense. */
async function normalSnapshot(saleId: string): Promise<Record<string, unknown>> {
  const keys = saleKeys({ saleId, shard: 0 });
  const outbox = await stores.redis.xrange(keys.outbox, '-', '+');
  const places = new Map(outbox.map(([entry], i) => [entry, `entry ${i}`]));
  const normal: Record<string, unknown> = {};
  for (const [key, found] of Object.entries(await snapshot(stores.redis, saleId))) {
    const { value, expiresAtMs } = z.object({ value: z.unknown(), expiresAtMs: z.number() }).parse(found);
    const isTicket = key.includes(':ticket:');
    normal[key.replaceAll(saleId, 'SALE')] = {
      // A ticket is forgotten at a moment that the call says, a key a day after one that the server says.
      expires: isTicket || expiresAtMs < 0 ? expiresAtMs : 'later',
      value: await normalValue(key, value),
    };
  }
  return normal;

  async function normalValue(key: string, value: unknown): Promise<unknown> {
    if (key === keys.outbox) return outbox.map(([, fields]) => fields.join(' ').replaceAll(saleId, 'SALE'));
    if (key === keys.deadlines) return normalDeadlines(z.array(z.string()).parse(value));
    if (key === keys.sale) return null;
    const hash = z.record(z.string(), z.string()).safeParse(value);
    if (!hash.success) return value;
    const { reserved_at: reservedAt, entry, items, ...rest } = hash.data;
    return {
      ...Object.fromEntries(
        Object.entries(rest).map(([name, text]) => [name, text.replaceAll(saleId, 'SALE')]),
      ),
      ...(items !== undefined && { items: sortedJson(items) }),
      ...(entry !== undefined && { entry: places.get(entry) }),
      isTimed: Number(reservedAt) > PAST_MS,
    };
  }

  /** How long after the order each deadline is. */
  async function normalDeadlines(members: readonly string[]): Promise<string[]> {
    const orderNos = members.filter((_, i) => i % 2 === 0);
    const pairs = await Promise.all(
      orderNos.map(async (orderNo, i) => {
        const reservedAt = await stores.redis.hget(keys.order(orderNo), 'reserved_at');
        return `${orderNo.replaceAll(saleId, 'SALE')} ${Number(members[2 * i + 1]) - Number(reservedAt)}`;
      }),
    );
    return pairs.toSorted();
  }
}

test('orders of one call are answered, and leave behind, what they do one by one', async () => {
  await assertProperty(
    fc.asyncProperty(
      fc.array(round, { minLength: 2, maxLength: 7 }),
      // A window by which ten or twenty orders may wait, or as many as come.
      fc.constantFrom(1, 2, 1_000),
      async (rounds, storesPerSecond) => {
        const sale: Partial<Sale> = { skus: SKUS, paymentWindowMs: 30_000 };
        const { saleId: together } = await stores.openSale(buildSale(sale));
        const { saleId: alone } = await stores.openSale(buildSale(sale));
        const sent: Twin[] = [];
        for (const { rules: changed, orders, released } of rounds) {
          const twins = orders.map(({ again, ticket: itsTicket, ...rest }): Twin => {
            const parts = { shard: 0, epoch: 1, ulid: ulid() };
            const callOf = (saleId: string) =>
              buildReserveCall(saleId, {
                ...rest,
                ...itsTicket,
                storesPerSecond,
                orderNo: formatOrderNo({ saleId, ...parts }),
              });
            const earlier = again === null ? undefined : sent[again % Math.max(1, sent.length)];
            const twin: Twin = earlier ?? [callOf(together), callOf(alone)];
            sent.push(twin);
            return twin;
          });
          const [first, ...others] = twins.map(([one]) => one);
          if (!first) continue;
          await withRules([together, alone], changed, async () => {
            const replies = await callReserveTogether(stores.redis, [first, ...others]);
            const expected = await callReserveOneByOne(twins.map(([, other]) => other));
            expect(normalReplies(together, replies)).toEqual(normalReplies(alone, expected));
          });
          for (const { orderNo } of sent[released % sent.length] ?? []) {
            await callRelease(stores.redis, orderNo, released % 2 === 0);
          }
        }
        expect(await normalSnapshot(together)).toEqual(await normalSnapshot(alone));
      },
    ),
    { numRuns: 40 },
  );
});

test('an order that comes twice in one call is held once, and answered alike', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const call = buildReserveCall(saleId);
  const [first, second] = await callReserveTogether(stores.redis, [call, call]);
  expect(first?.[0]).toBe('reserved');
  expect(second).toEqual(first);
  expectConservation(await readRedisSale(stores.redis, saleId, ['lamp', 'mug']));
});

test.each(['limits', 'deadlines', 'outbox', 'stock'] as const)(
  'where `%s` is damaged a call fails before anything of it is written',
  async (name) => {
    const { saleId } = await stores.openSale(buildSale());
    const key = saleKeys({ saleId, shard: 0 })[name];
    await stores.redis.del(key);
    await stores.redis.set(key, 'damaged');
    const before = await snapshot(stores.redis, saleId);
    const lines = [{ sku: 'mug', quantity: 1 }];
    const calls = [buildReserveCall(saleId, { lines }), buildReserveCall(saleId, { lines })] as const;
    await expect(callReserveTogether(stores.redis, [...calls])).rejects.toThrow('WRONGTYPE');
    expect(await snapshot(stores.redis, saleId)).toEqual(before);
  },
);
