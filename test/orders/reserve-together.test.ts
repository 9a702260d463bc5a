/** Purchases of one moment: they share calls to Redis, and each is answered as if it came alone. */

import { setImmediate as turn } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import { createReservations, type Reservations } from '../../src/orders/reservations.redis.ts';
import type { AcceptedTicket, ReserveOutcome, ReserveRequest } from '../../src/orders/reserve.redis.ts';
import type { RedisClient } from '../../src/redis/connection.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const STORES_PER_SECOND = 1_000;
const CODES = ['lamp', 'mug', 'cup'];

/** An open sale without limits, of which this process knows the epoch. */
async function openShop(total = 1_000): Promise<string> {
  const skus = CODES.map((sku) => ({ sku, name: sku, unitPrice: 100, total, limitPerUser: null }));
  const { saleId } = await stores.openSale(buildSale({ skus }));
  await stores.reservations.reserve(unknownCart(saleId));
  return saleId;
}

/** Refused; whoever asks has read the epoch of the sale afterwards. */
const unknownCart = (saleId: string) =>
  buildReserveRequest({ saleId, items: [{ sku: 'sofa', quantity: 1 }] });

const requestsOf = (saleId: string, count: number, overrides: Partial<ReserveRequest> = {}) =>
  Array.from({ length: count }, (_, i) => buildReserveRequest({ saleId, userId: `user-${i}`, ...overrides }));

const reserveAll = (
  requests: readonly ReserveRequest[],
  reservations: Pick<Reservations, 'reserve'> = stores.reservations,
): Promise<ReserveOutcome[]> => Promise.all(requests.map((request) => reservations.reserve(request)));

const kindsOf = (outcomes: readonly ReserveOutcome[]) => outcomes.map(({ kind }) => kind);

/** How many scripts Redis ran meanwhile. */
async function countCalls(during: () => Promise<unknown>): Promise<number> {
  await stores.redis.config('RESETSTAT');
  await during();
  const stats = await stores.redis.info('commandstats');
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1] ?? 0);
}

/**
 * Reservations over a connection that hands each call of the script to `answer`, by its number from 1; they
 * know the sale's epoch.
 */
async function withAnswers(
  saleId: string,
  answer: (nth: number, call: () => Promise<unknown>) => Promise<unknown>,
) {
  let calls = -1;
  const redis = new Proxy<RedisClient>(stores.redis, {
    get: (client, name): unknown =>
      name === 'reserve'
        ? (...args: unknown[]) => {
            const call = async (): Promise<unknown> => {
              const script: unknown = Reflect.get(client, name);
              if (typeof script !== 'function') throw new Error('the connection has no script');
              const answered: unknown = await Reflect.apply(script, client, args);
              return answered;
            };
            calls += 1;
            return calls === 0 ? call() : answer(calls, call);
          }
        : Reflect.get(client, name, client),
  });
  const reservations = createReservations(redis, { storesPerSecond: STORES_PER_SECOND });
  await reservations.reserve(unknownCart(saleId));
  return { reservations, calls: () => calls };
}

async function expectHeld(saleId: string, held: number): Promise<void> {
  const [lamp] = (await stores.saleStock.read(saleId))?.skus ?? [];
  expect(lamp).toMatchObject({ available: (lamp?.total ?? 0) - held, held });
  const { outbox } = saleKeys({ saleId, shard: 0 });
  expect(await stores.redis.xlen(outbox)).toBe(held);
}

test.each([
  [64, 1],
  [65, 2],
  [150, 3],
])('%d purchases of one moment are %d calls', async (purchases, calls) => {
  const saleId = await openShop();
  expect(
    await countCalls(async () => {
      const outcomes = await reserveAll(requestsOf(saleId, purchases));
      expect(new Set(kindsOf(outcomes))).toEqual(new Set(['reserved']));
    }),
  ).toBe(calls);
  await expectHeld(saleId, purchases);
});

test('carts of many lines share a call with fewer others', async () => {
  const saleId = await openShop();
  const items = CODES.map((sku) => ({ sku, quantity: 1 }));
  expect(await countCalls(() => reserveAll(requestsOf(saleId, 64, { items })))).toBe(2);
  await expectHeld(saleId, 64);
});

test('purchases of several sales share a call with those of their own sale', async () => {
  const [one, other] = [await openShop(), await openShop()];
  const requests = [one, other, one, other].map((saleId) => buildReserveRequest({ saleId }));
  expect(await countCalls(() => reserveAll(requests))).toBe(2);
  await expectHeld(one, 2);
  await expectHeld(other, 2);
});

test('each is answered with its own order', async () => {
  const saleId = await openShop();
  const requests = CODES.map((sku, i) =>
    buildReserveRequest({ saleId, userId: `user-${i}`, items: [{ sku, quantity: i + 1 }], reference: sku }),
  );
  const outcomes = await reserveAll(requests);
  for (const [i, outcome] of outcomes.entries()) {
    const sku = CODES[i];
    if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
    expect(outcome).toMatchObject({ reference: sku, items: [{ sku, quantity: i + 1, unitPrice: 100 }] });
    expect((await stores.reservations.readOrder(outcome.orderNo))?.order).toMatchObject({
      userId: `user-${i}`,
      reference: sku,
      total: (i + 1) * 100,
    });
  }
});

test('of two with one key the second is the repeat of the first', async () => {
  const saleId = await openShop();
  const request = buildReserveRequest({ saleId });
  const [first, second, third] = await reserveAll([request, request, { ...request, fingerprint: 'another' }]);
  if (first?.kind !== 'reserved') throw new Error(first?.kind);
  expect(second).toEqual({ kind: 'repeated', orderNo: first.orderNo });
  expect(third).toEqual({ kind: 'key-reused', orderNo: first.orderNo });
  await expectHeld(saleId, 1);
});

test('of two with one ticket of single use the second finds it spent', async () => {
  const saleId = await openShop();
  const ticket: AcceptedTicket = {
    id: 'a-ticket',
    endsAtMs: Date.now() + 60_000,
    isSingleUse: true,
    charges: [],
  };
  const [first, second] = await reserveAll(requestsOf(saleId, 2, { ticket }));
  if (first?.kind !== 'reserved') throw new Error(first?.kind);
  expect(second).toEqual({ kind: 'ticket-used', orderNo: first.orderNo });
  await expectHeld(saleId, 1);
});

test('a user who asks three times at once gets as many as the limit allows', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const outcomes = await reserveAll(requestsOf(saleId, 3, { userId: 'ada' }));
  expect(kindsOf(outcomes)).toEqual(['reserved', 'reserved', 'limit-reached']);
  await expectHeld(saleId, 2);
});

test('the last units go to those who asked first, and one that is refused takes none', async () => {
  const saleId = await openShop(3);
  const lamps = (quantity: number) => buildReserveRequest({ saleId, items: [{ sku: 'lamp', quantity }] });
  const outcomes = await reserveAll([lamps(2), lamps(2), lamps(1), lamps(1)]);
  expect(outcomes).toMatchObject([
    { kind: 'reserved' },
    { kind: 'sold-out', available: 1 },
    { kind: 'reserved' },
    { kind: 'sold-out', available: 0 },
  ]);
});

test('after a change of the epoch all of one moment get an order number of the new one', async () => {
  const saleId = await openShop();
  await stores.redis.hset(saleKeys({ saleId, shard: 0 }).sale, 'epoch', '2');
  const outcomes = await reserveAll(requestsOf(saleId, 5));
  for (const outcome of outcomes) {
    if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
    expect(outcome.orderNo.startsWith(`${saleId}-0-2-`)).toBe(true);
  }
  await expectHeld(saleId, 5);
});

test('one whose key is damaged fails alone', async () => {
  const saleId = await openShop();
  const requests = requestsOf(saleId, 3);
  const [, damaged] = requests;
  if (!damaged) throw new Error('three requests');
  await stores.redis.set(saleKeys({ saleId, shard: 0 }).idem(damaged.userId, damaged.idempotencyKey), 'x');

  const [first, second, third] = await Promise.allSettled(
    requests.map((request) => stores.reservations.reserve(request)),
  );

  expect(second).toMatchObject({ status: 'rejected', reason: { message: /WRONGTYPE/ } });
  expect([first, third]).toMatchObject([{ value: { kind: 'reserved' } }, { value: { kind: 'reserved' } }]);
  await expectHeld(saleId, 2);
});

test('when the answer of a call is lost, each order is sent by itself, and is held once', async () => {
  const saleId = await openShop();
  const { reservations, calls } = await withAnswers(saleId, async (nth, call) => {
    const answer = await call();
    if (nth === 1) throw new Error('Command timed out');
    return answer;
  });

  const outcomes = await reserveAll(requestsOf(saleId, 4), reservations);

  expect(kindsOf(outcomes)).toEqual(['reserved', 'reserved', 'reserved', 'reserved']);
  expect(calls()).toBe(5);
  await expectHeld(saleId, 4);
});

test('an order whose own answer is lost too is unknown to its caller', async () => {
  const saleId = await openShop();
  const { reservations } = await withAnswers(saleId, () =>
    Promise.reject(new Error('Connection is closed.')),
  );

  const outcomes = await Promise.allSettled(requestsOf(saleId, 2).map((one) => reservations.reserve(one)));

  expect(outcomes).toMatchObject([
    { reason: { message: 'Connection is closed.' } },
    { reason: { message: 'Connection is closed.' } },
  ]);
  await expectHeld(saleId, 0);
});

test('purchases of the next moment do not wait for an answer', async () => {
  const saleId = await openShop();
  const { promise: isAnswered, resolve: answerFirst } = withResolvers();
  const { reservations } = await withAnswers(saleId, async (nth, call) => {
    const answer = await call();
    if (nth === 1) await isAnswered;
    return answer;
  });
  const first = reserveAll(requestsOf(saleId, 2), reservations);
  await turn();

  const second = await reserveAll(
    requestsOf(saleId, 2, { items: [{ sku: 'mug', quantity: 1 }] }),
    reservations,
  );

  answerFirst();
  expect(kindsOf(second)).toEqual(['reserved', 'reserved']);
  expect(kindsOf(await first)).toEqual(['reserved', 'reserved']);
});

test('at maxmemory all of one moment are refused at once, with nothing written', async () => {
  const saleId = await openShop();
  await stores.redis.config('SET', 'maxmemory', '1');
  try {
    expect(
      await countCalls(async () => {
        expect(kindsOf(await reserveAll(requestsOf(saleId, 3)))).toEqual([
          'store-full',
          'store-full',
          'store-full',
        ]);
      }),
    ).toBeLessThan(2);
  } finally {
    await stores.redis.config('SET', 'maxmemory', '0');
  }
  await expectHeld(saleId, 0);
});

test('a part of a unit never reaches Redis', async () => {
  const saleId = await openShop();
  const request = buildReserveRequest({ saleId, items: [{ sku: 'lamp', quantity: 0.5 }] });
  await expect(stores.reservations.reserve(request)).rejects.toThrow('whole units');
});

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
