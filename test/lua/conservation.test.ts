/**
 * Whatever the shoppers, the workflows and the operators do, and in whichever order: no unit is made or lost.
 */

import * as fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RedisClient } from '../../src/redis/connection.ts';
import { orderKeys } from '../../src/redis/keys.ts';
import { buildSale } from '../support/factories.ts';
import { assertProperty } from '../support/property.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import {
  buildReserveCall,
  callChangeSale,
  callConfirm,
  callGiveBack,
  callProject,
  callRelease,
  callReserve,
  callReserveAgain,
  newOrderNo,
} from './raw-scripts.ts';
import { expectConservation, expectNoWayBack, readRedisSale } from './redis-sale.ts';
import { SaleModel, type Attempt } from './sale-model.ts';

let stores: TestStores;
let clients: RedisClient[];
beforeAll(async () => {
  stores = await openTestStores();
  clients = await Promise.all([1, 2, 3].map(() => stores.connectBlocking()));
});
afterAll(async () => {
  for (const client of clients) client.disconnect();
  await stores.close();
});

const SKUS = [
  { sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 6, limitPerUser: 2 },
  { sku: 'mug', name: 'Mug', unitPrice: 1_450, total: 4, limitPerUser: null },
  { sku: 'a.b-c_1', name: 'Odd', unitPrice: 1, total: 0, limitPerUser: 5 },
];
const CODES = SKUS.map(({ sku }) => sku);

const line = fc.record({
  sku: fc.constantFrom(...CODES, ...CODES, 'unknown'),
  quantity: fc.integer({ min: 1, max: 3 }),
});
const request = {
  userId: fc.constantFrom('ada', 'bo', 'cy@example.com'),
  // Few keys, so that some come twice, and some with another request.
  idempotencyKey: fc.integer({ min: 1, max: 12 }).map(String),
  fingerprint: fc.constantFrom('f', 'f', 'g'),
  lines: fc.uniqueArray(line, { minLength: 1, maxLength: 3, selector: ({ sku }) => sku }),
};
const reserve = fc.record({ ...request, kind: fc.constant('reserve' as const) });
/** Points at one of the attempts made so far, accepted or not. */
const which = fc.nat(1_000);
const step = fc.oneof(
  { weight: 6, arbitrary: reserve },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('resend' as const), which }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('confirm' as const), which }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('release' as const), which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reserve-again' as const), which }) },
  { weight: 2, arbitrary: fc.record({ ...request, kind: fc.constant('restore' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('give-back' as const),
      which,
      limit: fc.boolean(),
      stock: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('project' as const),
      which,
      version: fc.integer({ min: 1, max: 6 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('change' as const),
      changeNo: fc.integer({ min: 2, max: 12 }),
      // A number comes again, for another change, where MySQL has lost commits.
      changeId: fc.constantFrom('a', 'b'),
      // The last SKU is new, and no order is for it.
      totals: fc.tuple(...[...CODES, 'new'].map(() => fc.integer({ min: 0, max: 12 }))),
      limitPerUser: fc.constantFrom(null, 2, 5),
    }),
  },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Gives back only of an order that was accepted: no process asks for another. */
async function giveBack(
  redis: RedisClient,
  attempt: Attempt,
  what: { limit: boolean; stock: boolean },
): Promise<string[]> {
  const isThere = (await redis.exists(orderKeys(attempt.orderNo).order)) === 1;
  return isThere ? callGiveBack(redis, { ...attempt, ...what }) : [];
}

/** One run's sale, and the attempts made in it. */
async function openRun() {
  const { saleId } = await stores.openSale(buildSale({ skus: SKUS }));
  const model = new SaleModel(SKUS);
  const attempts: Attempt[] = [];
  const accepted: Attempt[] = [];
  /** Mostly one that was accepted: of the others nothing can be settled. */
  const pick = (index: number): Attempt | undefined => {
    const choice = index % 4 > 0 && accepted.length > 0 ? accepted : attempts;
    return choice[index % Math.max(1, choice.length)];
  };
  const noted = async (attempt: Attempt, call: Promise<string[]>): Promise<string[]> => {
    const reply = await call;
    if (reply[0] === 'reserved') accepted.push(attempt);
    return reply;
  };
  const send = (redis: RedisClient, attempt: Attempt) =>
    noted(attempt, callReserve(redis, buildReserveCall(saleId, { storesPerSecond: 1_000, ...attempt })));
  const restore = (redis: RedisClient, attempt: Attempt) =>
    noted(attempt, callReserveAgain(redis, buildReserveCall(saleId, attempt)));

  /** Sends the step. @returns the reply of Redis, and that of the model */
  function take(redis: RedisClient, next: Step): { actual: Promise<string[]>; expected: () => string[] } {
    if (next.kind === 'change') {
      const { changeNo, changeId, totals, limitPerUser } = next;
      const items = [...CODES, 'new'].map((sku, i) => ({ sku, total: totals[i] ?? 0, limitPerUser }));
      return {
        actual: callChangeSale(redis, saleId, changeNo, items, changeId),
        expected: () => model.change(changeNo, changeId, items),
      };
    }
    if (next.kind === 'reserve' || next.kind === 'restore') {
      const { userId, idempotencyKey, fingerprint, lines } = next;
      const attempt = { orderNo: newOrderNo(saleId), userId, idempotencyKey, fingerprint, lines };
      attempts.push(attempt);
      return next.kind === 'reserve'
        ? { actual: send(redis, attempt), expected: () => model.reserve(attempt) }
        : { actual: restore(redis, attempt), expected: () => model.reserveAgain(attempt) };
    }
    const attempt = pick(next.which);
    const orderNo = attempt?.orderNo ?? newOrderNo(saleId);
    switch (next.kind) {
      case 'resend':
        return attempt
          ? { actual: send(redis, attempt), expected: () => model.reserve(attempt) }
          : { actual: Promise.resolve([]), expected: () => [] };
      case 'reserve-again':
        return attempt
          ? {
              actual: restore(redis, attempt),
              expected: () => model.reserveAgain(attempt),
            }
          : { actual: Promise.resolve([]), expected: () => [] };
      case 'give-back':
        return {
          actual: attempt ? giveBack(redis, attempt, next) : Promise.resolve([]),
          expected: () => model.giveBack(orderNo, next),
        };
      case 'confirm':
        return { actual: callConfirm(redis, orderNo), expected: () => model.settle(orderNo, 'sold') };
      case 'release':
        return { actual: callRelease(redis, orderNo), expected: () => model.settle(orderNo, 'released') };
      case 'project':
        return {
          actual: callProject(redis, orderNo, next.version),
          expected: () => model.project(orderNo, next.version),
        };
      default:
        return next satisfies never;
    }
  }

  return { model, take, read: () => readRedisSale(stores.redis, saleId, CODES) };
}

test('after every step each unit is available, held or sold, and the scripts do what the model says', async () => {
  await assertProperty(
    fc.asyncProperty(fc.array(step, { minLength: 15, maxLength: 50 }), async (steps) => {
      const { model, take, read } = await openRun();
      let before = await read();
      for (const next of steps) {
        const { actual, expected } = take(stores.redis, next);
        const wanted = expected();
        expect((await actual).slice(0, Math.max(1, wanted.length))).toEqual(wanted);
        const after = await read();
        expectConservation(after);
        expectNoWayBack(before, after);
        for (const [sku, { total, held, sold }] of model.stock) {
          if (after.stock.has(sku)) expect(after.stock.get(sku)).toMatchObject({ total, held, sold });
        }
        expect(new Map(after.orders.map(({ orderNo, hold }) => [orderNo, hold]))).toEqual(
          new Map([...model.holds].map(([orderNo, { hold }]) => [orderNo, hold])),
        );
        before = after;
      }
    }),
    { numRuns: 40 },
  );
});

test('with several clients at once each unit is still available, held or sold', async () => {
  const rounds = fc.array(fc.array(step, { minLength: 4, maxLength: 12 }), { minLength: 3, maxLength: 6 });
  await assertProperty(
    fc.asyncProperty(rounds, async (crowds) => {
      const { take, read } = await openRun();
      let before = await read();
      for (const crowd of crowds) {
        const replies = crowd.map(
          (next, i) => take(clients[i % clients.length] ?? stores.redis, next).actual,
        );
        await Promise.all(replies);
        const after = await read();
        expectConservation(after);
        expectNoWayBack(before, after);
        before = after;
      }
    }),
    { numRuns: 40 },
  );
});
