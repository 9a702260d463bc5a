/** The open orders of each user, and the holds that they left unpaid: what each script writes of them. */

import { beforeAll, describe, expect, test } from 'vitest';
import { orderKeys, saleKeys } from '../../src/redis/keys.ts';
import { buildSale } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import {
  buildReserveCall,
  callConfirm,
  callDropOpen,
  callForgetOrder,
  callRelease,
  callRenameUser,
  callReserve,
  callReserveAgain,
  callReserveTogether,
  callRestoreHold,
  snapshot,
  type ReserveCall,
} from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const MUG = [{ sku: 'mug', quantity: 1 }];

async function openSale(mugs = 5) {
  const sale = buildSale();
  const skus = sale.skus.map((item) => (item.sku === 'mug' ? { ...item, total: mugs } : item));
  const { saleId } = await stores.openSale({ ...sale, skus });
  const keys = saleKeys({ saleId, shard: 0 });
  return {
    saleId,
    keys,
    /** A mug for ada, which has no limit. */
    async hold(overrides: Partial<Omit<ReserveCall, 'saleId'>> = {}): Promise<ReserveCall> {
      const call = buildReserveCall(saleId, { lines: MUG, ...overrides });
      expect((await callReserve(stores.redis, call))[0]).toBe('reserved');
      return call;
    },
    open: () => stores.redis.hgetall(keys.open),
    unpaid: () => stores.redis.hgetall(keys.unpaid),
  };
}

describe("a user's open orders", () => {
  test('are written with the hold, the newest last, and taken off by its end', async () => {
    const { hold, open } = await openSale();
    const [first, second, third] = [await hold(), await hold(), await hold()].map(({ orderNo }) => orderNo);
    const other = await hold({ userId: 'bo' });
    expect(await open()).toEqual({ ada: `${first} ${second} ${third}`, bo: other.orderNo });

    await callConfirm(stores.redis, second ?? '');
    await callRelease(stores.redis, other.orderNo);
    expect(await open()).toEqual({ ada: `${first} ${third}` });
    await callRelease(stores.redis, first ?? '');
    await callConfirm(stores.redis, third ?? '');
    expect(await open()).toEqual({});
  });

  test('of one call are added in its order, to those that were there before', async () => {
    const { saleId, hold, open } = await openSale(30);
    const before: string[] = [];
    for (let i = 0; i < 19; i += 1) before.push((await hold()).orderNo);
    const mugFor = (userId: string) => buildReserveCall(saleId, { userId, lines: MUG });
    const [first, others, second] = [mugFor('ada'), mugFor('bo'), mugFor('ada')];
    await callReserveTogether(stores.redis, [first, others, second]);

    const { ada, bo } = await open();
    expect(ada?.split(' ').slice(1)).toEqual([...before.slice(-18), first.orderNo, second.orderNo]);
    expect(bo).toBe(others.orderNo);
  });

  test('lose one that has ended without a script, and none that is held', async () => {
    const { keys, hold, open } = await openSale();
    const [ended, held] = [(await hold()).orderNo, (await hold()).orderNo];
    await stores.redis.del(keys.order(ended));
    expect(await callDropOpen(stores.redis, held)).toEqual(['held']);
    expect(await callDropOpen(stores.redis, ended)).toEqual(['dropped']);
    expect(await callDropOpen(stores.redis, ended)).toEqual(['gone']);
    expect(await open()).toEqual({ ada: held });
  });

  test('are the newest twenty, after a mark of when another last went', async () => {
    const { keys, hold, open } = await openSale(30);
    const orderNos: string[] = [];
    for (let i = 0; i < 23; i += 1) orderNos.push((await hold()).orderNo);
    const last = orderNos.at(-1) ?? '';
    const [mark = '', ...listed] = String((await open())['ada']).split(' ');
    expect(listed).toEqual(orderNos.slice(-20));
    expect(mark).toMatch(/^\+\d+$/);
    const lastAtMs = Number(await stores.redis.hget(keys.order(last), 'reserved_at'));
    expect(Number(mark.slice(1))).toBeGreaterThanOrEqual(lastAtMs);

    // One that is not listed ends as any.
    expect(await callRelease(stores.redis, orderNos[0] ?? '')).toEqual(['released']);
    expect((await open())['ada']?.split(' ')).toEqual([mark, ...orderNos.slice(-20)]);

    for (const orderNo of orderNos.slice(3, -1)) await callConfirm(stores.redis, orderNo);
    expect(await open()).toEqual({ ada: `${mark} ${last}` });
    const { orderNo: next } = await hold();
    expect(await open()).toEqual({ ada: `${mark} ${last} ${next}` });
    for (const orderNo of [last, next]) await callConfirm(stores.redis, orderNo);
    expect(await open()).toEqual({ ada: mark });
  });

  test('are named where a user is refused, those of the same call too', async () => {
    const { saleId, hold } = await openSale();
    const { orderNo: earlier } = await hold();
    const lamps = (quantity: number, userId = 'ada') =>
      buildReserveCall(saleId, { userId, lines: [{ sku: 'lamp', quantity }] });
    const [two, one, others] = [lamps(2), lamps(1), lamps(9, 'bo')];
    const replies = await callReserveTogether(stores.redis, [two, one, others]);

    expect(replies.map(([kind]) => kind)).toEqual(['reserved', 'limit-reached', 'sold-out']);
    expect(replies[1]).toEqual(['limit-reached', 'lamp', '2', '2', `${earlier} ${two.orderNo}`]);
    expect(replies[2]).toEqual(['sold-out', 'lamp', '8', '2', '']);
  });

  test('a refusal says how many units others hold: 0 means all are sold', async () => {
    const { saleId, hold } = await openSale(1);
    const { orderNo } = await hold({ userId: 'bo' });
    const refused = () => callReserve(stores.redis, buildReserveCall(saleId, { lines: MUG }));
    expect(await refused()).toEqual(['sold-out', 'mug', '0', '1', '']);
    await callConfirm(stores.redis, orderNo);
    expect(await refused()).toEqual(['sold-out', 'mug', '0', '0', '']);
  });

  test('come back with a hold that is restored or reserved again, once', async () => {
    const { saleId, keys, hold, open } = await openSale();
    const { orderNo } = await hold();
    await stores.redis.del(keys.open, orderKeys(orderNo).order);
    await callRestoreHold(stores.redis, orderNo);
    await callRestoreHold(stores.redis, orderNo);
    expect(await open()).toEqual({ ada: orderNo });

    const lost = buildReserveCall(saleId, { lines: MUG });
    await callReserveAgain(stores.redis, lost);
    await callReserveAgain(stores.redis, lost);
    expect(await open()).toEqual({ ada: `${orderNo} ${lost.orderNo}` });
  });

  test('stop no order where a hand put something else in their place', async () => {
    const { saleId, keys, hold } = await openSale();
    const { orderNo: first } = await hold();
    await stores.redis.del(keys.open);
    await stores.redis.set(keys.open, 'damaged');
    const { orderNo: second } = await hold();

    const refused = await callReserve(
      stores.redis,
      buildReserveCall(saleId, { lines: [{ sku: 'mug', quantity: 9 }] }),
    );
    expect(refused).toEqual(['sold-out', 'mug', '3', '2', '']);
    expect(await callConfirm(stores.redis, first)).toEqual(['sold']);
    expect(await callRelease(stores.redis, second)).toEqual(['released']);
    expect(await stores.saleStock.checkLife(saleId)).toEqual({ kind: 'damaged', epoch: 1 });
  });

  test('are forgotten with an order and with its user', async () => {
    const { saleId, keys, hold, open } = await openSale();
    const [first, second] = [await hold(), await hold()];
    // The list has one that has ended: a fault has left it there.
    await callRelease(stores.redis, first.orderNo);
    await stores.redis.hset(keys.open, 'ada', `${first.orderNo} ${second.orderNo}`);
    await callForgetOrder(stores.redis, first.orderNo, first.idempotencyKey);
    expect(await open()).toEqual({ ada: second.orderNo });

    await callRenameUser(stores.redis, saleId);
    expect(await open()).toEqual({});
  });
});

describe('holds that a user left unpaid', () => {
  test('are counted with their release, each once', async () => {
    const { hold, unpaid } = await openSale();
    const [first, second, byStaff] = [await hold(), await hold(), await hold()];
    for (const { orderNo } of [first, second, first]) await callRelease(stores.redis, orderNo, true);
    await callRelease(stores.redis, byStaff.orderNo);
    await callRelease(stores.redis, byStaff.orderNo, true);
    expect(await unpaid()).toEqual({ ada: '2' });
  });

  test('have more refused once they are as many as the sale allows, and only then', async () => {
    const { saleId, keys, hold } = await openSale();
    const refusedOf = (userId: string) =>
      callReserve(stores.redis, buildReserveCall(saleId, { userId, lines: MUG }));
    for (let i = 0; i < 2; i += 1) await callRelease(stores.redis, (await hold()).orderNo, true);
    // Off by default.
    await hold();
    await stores.redis.hset(keys.sale, 'max_unpaid', 3);
    const { orderNo } = await hold();
    await callRelease(stores.redis, orderNo, true);

    const before = await snapshot(stores.redis, saleId);
    expect(await refusedOf('ada')).toEqual(['too-many-unpaid', '3', '3']);
    expect(await snapshot(stores.redis, saleId)).toEqual(before);
    expect((await refusedOf('bo'))[0]).toBe('reserved');
  });

  test('a repeat with the key of an order that was accepted before finds it', async () => {
    const { keys, hold } = await openSale();
    const call = await hold();
    await callRelease(stores.redis, call.orderNo, true);
    await stores.redis.hset(keys.sale, 'max_unpaid', 1);
    expect((await callReserve(stores.redis, call))[0]).toBe('reserved');
  });

  test('are not counted any more where MySQL knows nothing of the end, and are by the next one', async () => {
    const { hold, unpaid } = await openSale();
    const { orderNo } = await hold();
    await callRelease(stores.redis, orderNo, true);
    await callRestoreHold(stores.redis, orderNo);
    await callRestoreHold(stores.redis, orderNo);
    expect(await unpaid()).toEqual({});

    await callRelease(stores.redis, orderNo, true);
    expect(await unpaid()).toEqual({ ada: '1' });
    // Ended by staff in the end.
    await callRestoreHold(stores.redis, orderNo);
    await callRelease(stores.redis, orderNo);
    await callRestoreHold(stores.redis, orderNo);
    expect(await unpaid()).toEqual({});
  });

  test('are counted under the token of an erased user, once', async () => {
    const { saleId, keys, hold, unpaid } = await openSale();
    await callRelease(stores.redis, (await hold()).orderNo, true);
    await stores.redis.hset(keys.unpaid, 'erased-1', 2);
    await callRenameUser(stores.redis, saleId);
    await callRenameUser(stores.redis, saleId);
    expect(await unpaid()).toEqual({ 'erased-1': '3' });
  });
});
