/** Every reply of `project`: a projection only moves forward. */

import { once } from 'node:events';
import { Redis } from 'ioredis';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { OrderState } from '../../src/orders/order.ts';
import { connectToListen } from '../../src/redis/connection.ts';
import { changesChannelOf, orderKeys } from '../../src/redis/keys.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';
import { callProject, newOrderNo, snapshot } from './raw-scripts.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const stored: OrderState = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };
const cancelled: OrderState = {
  status: 'cancelled',
  version: 3,
  payment: 'none',
  reason: 'payment_timeout',
};

async function hold(quantity = 1): Promise<{ saleId: string; orderNo: string }> {
  const { saleId } = await stores.openSale(buildSale());
  const request = buildReserveRequest({ saleId, items: [{ sku: 'lamp', quantity }] });
  const outcome = await stores.reservations.reserve(request);
  if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
  return { saleId, orderNo: outcome.orderNo };
}

describe('project', () => {
  test('shows a newer state to pollers', async () => {
    const { orderNo } = await hold();
    expect(await stores.reservations.project(orderNo, stored)).toBe('projected');
    expect(await stores.reservations.project(orderNo, cancelled)).toBe('projected');
    expect((await stores.reservations.readOrder(orderNo))?.state).toEqual(cancelled);
  });

  test('never turns a status back when an older copy comes late', async () => {
    const { orderNo } = await hold();
    await stores.reservations.project(orderNo, cancelled);
    expect(await callProject(stores.redis, orderNo, 2)).toEqual(['stale']);
    expect((await stores.reservations.readOrder(orderNo))?.state).toEqual(cancelled);
  });

  test('calls a repeated copy stale and changes nothing', async () => {
    const { saleId, orderNo } = await hold();
    await stores.reservations.project(orderNo, stored);
    const before = await snapshot(stores.redis, saleId);
    expect(await stores.reservations.project(orderNo, stored)).toBe('stale');
    expect(await snapshot(stores.redis, saleId)).toEqual(before);
  });

  test('shows a later deadline, and moves a held order to it', async () => {
    const { saleId, orderNo } = await hold();
    const { deadlines, moves } = orderKeys(orderNo);
    const extendedUntilMs = Date.now() + 3_600_000;
    const extended = { ...stored, version: 2, extendedUntilMs };
    await stores.redis.rpush(moves, 'a look');
    expect(await stores.reservations.project(orderNo, extended)).toBe('projected');
    // A walk over the deadlines is told.
    expect(await stores.redis.lrange(moves, 0, -1)).toEqual(['a look', `>${orderNo}`]);
    await stores.redis.del(moves);
    const after = await snapshot(stores.redis, saleId);
    expect(await stores.reservations.project(orderNo, extended)).toBe('stale');
    expect(await stores.reservations.project(orderNo, stored)).toBe('stale');
    expect(await snapshot(stores.redis, saleId)).toEqual(after);
    expect((await stores.reservations.readOrder(orderNo))?.state).toEqual(extended);
    expect(Number(await stores.redis.zscore(deadlines, orderNo))).toBe(extendedUntilMs);
    // What comes later keeps it, and does not put an ended order back among the held.
    await stores.reservations.release(orderNo);
    await stores.reservations.project(orderNo, { ...cancelled, extendedUntilMs });
    expect(await stores.redis.zscore(deadlines, orderNo)).toBeNull();
  });

  test('forgets what went back of a payment where a newer state has nothing of it', async () => {
    const { orderNo } = await hold();
    const paid: OrderState = { status: 'paid', version: 3, payment: 'applied', reason: null };
    await stores.reservations.project(orderNo, { ...paid, payment: 'refunded', refunded: 4_900 });
    expect((await stores.reservations.readOrder(orderNo))?.state.refunded).toBe(4_900);
    await stores.reservations.project(orderNo, { ...paid, version: 4 });
    expect((await stores.reservations.readOrder(orderNo))?.state).toEqual({ ...paid, version: 4 });
  });

  test('tells who listens of all its orders in one message where one has changed, and nothing where none has', async () => {
    const [newer, older] = [await hold(), await hold()];
    const { redis } = stores;
    await stores.reservations.project(older.orderNo, stored);
    const heard: string[] = [];
    const channel = changesChannelOf(newer.orderNo);
    const listener = connectToListen(redis instanceof Redis ? redis : expect.unreachable(), silent);
    onTestFinished(() => listener.disconnect());
    listener.on('smessage', (_: string, message: string) => heard.push(message));
    await once(listener, 'ready');
    await listener.ssubscribe(channel);

    await stores.reservations.project(newer.orderNo, stored);
    await stores.reservations.project(newer.orderNo, stored);
    await stores.reservations.projectAll([newer.orderNo, older.orderNo], stored);
    await stores.reservations.projectAll([newer.orderNo, older.orderNo], { ...stored, version: 2 });
    await redis.spublish(channel, 'the last');

    await waitFor('the last message', () => heard.includes('the last'));
    const keys = [newer, older].map(({ orderNo }) => orderKeys(orderNo).order);
    expect(heard).toEqual([keys[0], keys.join(' '), 'the last']);
  });

  test('compares versions as numbers', async () => {
    const { orderNo } = await hold();
    await callProject(stores.redis, orderNo, 9);
    expect(await callProject(stores.redis, orderNo, 10)).toEqual(['projected']);
  });

  test('answers for many orders of a sale at once, in their order', async () => {
    const [newer, older] = [await hold(), await hold()];
    await stores.reservations.project(older.orderNo, cancelled);
    const absent = newOrderNo(newer.saleId);
    const orderNos = [older.orderNo, absent, newer.orderNo];
    expect(await stores.reservations.projectAll(orderNos, stored)).toEqual(['stale', 'absent', 'projected']);
    expect((await stores.reservations.readOrder(newer.orderNo))?.state).toEqual(stored);
    expect((await stores.reservations.readOrder(older.orderNo))?.state).toEqual(cancelled);
  });

  test('says that a wish to cancel waits which the state lacks, whether it is newer or not', async () => {
    const { orderNo } = await hold();
    await stores.reservations.wishCancel(orderNo, 'shopper_request');
    expect(await stores.reservations.project(orderNo, stored)).toBe('wished');
    expect(await stores.redis.hget(orderKeys(orderNo).order, 'version')).toBe('1');
    expect(await stores.reservations.project(orderNo, stored)).toBe('wished');
    const closing: OrderState = { ...stored, version: 2, reason: 'shopper_request' };
    expect(await stores.reservations.project(orderNo, closing)).toBe('projected');
    expect(await stores.reservations.project(orderNo, cancelled)).toBe('projected');
  });

  test('creates no projection for an order that Redis does not have', async () => {
    const { saleId } = await hold();
    const before = await snapshot(stores.redis, saleId);
    expect(await stores.reservations.project(newOrderNo(saleId), stored)).toBe('absent');
    expect(await snapshot(stores.redis, saleId)).toEqual(before);
  });

  test('does not make a settled projection live for ever', async () => {
    const { saleId, orderNo } = await hold();
    await stores.reservations.release(orderNo);
    await stores.reservations.project(orderNo, cancelled);
    const entry = (await snapshot(stores.redis, saleId))[`holdfast:{${saleId}.0}:order:${orderNo}`];
    expect(entry).not.toMatchObject({ expiresAtMs: -1 });
  });
});
