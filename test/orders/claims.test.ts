/** Claims of what is due, orders and refunds alike: relays take, complete and release them. */

import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ProviderPayment } from '../../src/money/payment.ts';
import { modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { createMoneyWorld, type MoneyWorld } from '../money/money-world.ts';
import { ageClaim } from '../support/ageing.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { buildReversal, pay, reverse } from '../support/payment-notices.ts';
import { select } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
let world: MoneyWorld;
let saleId: string;
beforeAll(async () => {
  stores = await openTestStores();
  world = createMoneyWorld(stores);
  const skus = [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null }];
  ({ saleId } = await stores.openSale(buildSale({ skus })));
});
// What is due is due in all sales: each test begins with nothing.
beforeEach(async () => {
  for (const table of ['orders', 'payments'])
    await modify(stores.pool, `UPDATE ${table} SET engine_due_at = NULL`);
});

interface Claims<T> {
  take(limit: number): Promise<T[]>;
  complete(claims: readonly T[]): Promise<void>;
  release(claims: readonly T[], failed?: readonly T[]): Promise<void>;
}

/** The claims by the numbers of their orders, as they were taken last. */
function byOrderNo<T>(orderNoOf: (claim: T) => string, claims: () => Claims<T>) {
  const taken = new Map<string, T>();
  const claimsOf = (orderNos: readonly string[]): T[] =>
    orderNos.flatMap((orderNo) => taken.get(orderNo) ?? []);
  return {
    async take(limit: number): Promise<string[]> {
      const found = await claims().take(limit);
      for (const claim of found) taken.set(orderNoOf(claim), claim);
      return found.map(orderNoOf);
    },
    complete: (orderNos: readonly string[]) => claims().complete(claimsOf(orderNos)),
    release: (orderNos: readonly string[], failed: readonly string[] = []) =>
      claims().release(claimsOf(orderNos), claimsOf(failed)),
  };
}

const orders = {
  ...byOrderNo(
    ({ order }) => order.orderNo,
    () => stores.orderClaims,
  ),
  kind: 'start',
  async makeDue(count: number): Promise<string[]> {
    const stored = Array.from({ length: count }, () => buildOrder({ saleId }));
    await stores.orders.storeOrders(stored, 'due');
    return stored.map(({ orderNo }) => orderNo);
  },
  makeDueAgain: (orderNos: readonly string[]) => stores.orderClaims.requeue(orderNos),
  async hearOf(orderNo: string): Promise<void> {
    const found = await stores.orders.read(orderNo);
    if (found) await pay(stores, found.order);
  },
} as const;

/** Money that came after its order was cancelled, by the order. */
const late = new Map<string, ProviderPayment>();
const paymentsOf = (orderNos: readonly string[]): ProviderPayment[] =>
  orderNos.flatMap((orderNo) => late.get(orderNo) ?? []);

const refunds = {
  ...byOrderNo(
    ({ orderNo }) => orderNo,
    () => stores.refundClaims,
  ),
  kind: 'refund',
  async makeDue(count: number): Promise<string[]> {
    const stored = Array.from({ length: count }, () => buildOrder({ saleId }));
    await stores.orders.storeOrders(stored, 'started');
    const comeLate = async (order: Order): Promise<void> => {
      await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: false });
      late.set(order.orderNo, (await world.withMoney(order)).payment);
    };
    await Promise.all(stored.map(comeLate));
    return stored.map(({ orderNo }) => orderNo);
  },
  async makeDueAgain(orderNos: readonly string[]): Promise<unknown> {
    return stores.refundClaims.requeue(await Promise.all(paymentsOf(orderNos).map(world.idOf)));
  },
  async hearOf(orderNo: string): Promise<void> {
    for (const payment of paymentsOf([orderNo])) await reverse(stores, buildReversal(payment));
  },
} as const;

describe.each([
  ['orders', orders],
  ['refunds', refunds],
] as const)('of due %s', (_, due) => {
  const age = (orderNo: string | undefined, seconds: number) =>
    ageClaim(stores.pool, due.kind, orderNo ?? '', seconds);
  /** The first has been due the longest. */
  async function makeDueInTurn(count: number): Promise<string[]> {
    const orderNos = await due.makeDue(count);
    await ageInTurn(orderNos);
    return orderNos;
  }
  async function ageInTurn(orderNos: readonly string[]): Promise<void> {
    for (const [i, orderNo] of orderNos.entries()) await age(orderNo, 90 - i);
  }

  test('each is claimed once', async () => {
    const [one] = await due.makeDue(1);
    expect(await due.take(10)).toEqual([one]);
    expect(await due.take(10)).toEqual([]);
  });

  test('the longest due come first, up to the limit', async () => {
    const [young, old, middle] = await due.makeDue(3);
    await age(young, 10);
    await age(old, 30);
    await age(middle, 20);
    expect(await due.take(2)).toEqual([old, middle]);
    expect(await due.take(2)).toEqual([young]);
  });

  test('relays that claim at once never get the same one, and together get all', async () => {
    const all = await due.makeDue(30);
    const claimed = (await Promise.all(Array.from({ length: 6 }, () => due.take(5)))).flat();
    const rest = await due.take(100);
    expect([...claimed, ...rest].toSorted()).toEqual(all.toSorted());
  });

  test('a completed claim is due no more, and a released one is due at once', async () => {
    const [completed = '', released = ''] = await due.makeDue(2);
    await due.take(2);
    await due.complete([completed]);
    await due.release([released]);
    expect(await due.take(2)).toEqual([released]);
    await age(completed, 1);
    await age(released, 1);
    expect(await due.take(2)).toEqual([released]);
  });

  test('the claim of a relay that died runs out within half a minute', async () => {
    const [one] = await due.makeDue(1);
    await due.take(1);
    const table = due.kind === 'start' ? 'orders' : 'payments';
    const sql = `SELECT TIMESTAMPDIFF(SECOND, NOW(3), engine_due_at) AS seconds FROM ${table} WHERE order_no = ?`;
    const [{ seconds } = {}] = await select(stores.pool, sql, [one]);
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(30);
    await age(one, 0);
    expect(await due.take(1)).toEqual([one]);
  });

  test('the claim of a relay that died keeps its place, once it was taken and released', async () => {
    const [first, second] = await makeDueInTurn(2);
    await due.take(1);
    // It runs out, by then behind the other.
    await age(first, 0);
    expect(await due.take(2)).toEqual([second, first]);

    await due.release([second ?? '', first ?? '']);

    expect(await due.take(2)).toEqual([first, second]);
  });

  test('what was not tried, and what failed once or twice, keeps its place; a third failure in a row loses it', async () => {
    const all = await makeDueInTurn(4);
    const [poison = '', ...others] = all;
    const tryFirst = async (): Promise<string | undefined> => {
      const claimed = await due.take(3);
      await due.release(claimed, claimed.slice(0, 1));
      return claimed[0];
    };

    expect([await tryFirst(), await tryFirst(), await tryFirst()]).toEqual([poison, poison, poison]);
    expect(await due.take(4)).toEqual([...others, poison]);

    // From then on each failure is one in a row, until one try succeeds.
    await ageInTurn(all);
    expect(await tryFirst()).toBe(poison);
    expect(await due.take(4)).toEqual([...others, poison]);
    await due.complete(all);
    await due.makeDueAgain(all);
    await ageInTurn(all);
    expect([await tryFirst(), await tryFirst()]).toEqual([poison, poison]);
  });

  test('news that come while one is claimed keep it due', async () => {
    const [changed = '', quiet = ''] = await due.makeDue(2);
    await due.take(2);
    await due.hearOf(changed);
    await due.complete([changed, quiet]);
    await age(changed, 0);
    await age(quiet, 0);
    expect(await due.take(10)).toEqual([changed]);
  });

  test('a claim that is released late makes nothing due that was completed', async () => {
    const all = await due.makeDue(1);
    await due.take(1);
    await due.complete(all);
    await due.release(all);
    expect(await due.take(1)).toEqual([]);
  });

  test('completing and releasing no claims does nothing', async () => {
    const all = await due.makeDue(1);
    await due.complete([]);
    await due.release([]);
    expect(await due.take(1)).toEqual(all);
  });
});
