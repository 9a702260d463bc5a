/** The schedule's keeper: when a schedule that was made is missing, Temporal has lost its data. */

import {
  ScheduleNotFoundError,
  type Client,
  type ScheduleDescription,
  type ScheduleHandle,
} from '@temporalio/client';
import { beforeEach, expect, test } from 'vitest';
import { keepSchedule, type ScheduleKeeperDeps } from '../../src/workers/service.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { partly } from '../support/partly.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
let saleId: string;
beforeEach(async () => {
  stores = await openTestStores();
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 5_000, limitPerUser: null }];
  ({ saleId } = await stores.openSale(buildSale({ skus })));
});

/** A keeper, and whether its Temporal has the schedule. */
function openKeeper(parts: Partial<ScheduleKeeperDeps> = {}) {
  const temporal = { hasSchedule: false };
  const deps = {
    ...stores,
    namespace: 'shop',
    client: clientOf(temporal),
    schedule: { taskQueue: 'orders', deployment: { id: '0b1c', name: 'holdfast' }, everyMs: 60_000 },
    signal: new AbortController().signal,
    log: silent,
    ...parts,
  };
  return { pass: () => keepSchedule(deps), temporal };
}

/** Of the schedule it knows whether it is there, and nothing of its form: where it is, it is updated. */
function clientOf(temporal: { hasSchedule: boolean }): Client {
  return partly<Client>({
    withDeadline: (_, work) => work(),
    schedule: {
      getHandle: () =>
        partly<ScheduleHandle>({
          async describe() {
            if (!temporal.hasSchedule) throw new ScheduleNotFoundError('there is none', 'reconcile');
            return partly<ScheduleDescription>({ spec: {}, action: {} });
          },
          update: async () => undefined,
        }),
      async create() {
        temporal.hasSchedule = true;
        return partly<ScheduleHandle>({});
      },
    },
  });
}

async function storeStarted(count: number): Promise<string[]> {
  const orders = Array.from({ length: count }, () => buildOrder({ saleId }));
  await stores.orders.storeOrders(orders, 'started');
  return orders.map(({ orderNo }) => orderNo).toSorted();
}

async function claimDue(): Promise<string[]> {
  return (await stores.orderClaims.take(1_000)).map(({ order }) => order.orderNo).toSorted();
}

test('a shop that is new to Temporal gets its schedule, and nothing is due again', async () => {
  await storeStarted(2);
  const { pass, temporal } = openKeeper();

  await pass();
  await pass();

  expect(temporal.hasSchedule).toBe(true);
  expect(await claimDue()).toEqual([]);
});

test('when the schedule is gone, all open orders whose workflow had begun are due again, and then it is made', async () => {
  const { pass, temporal } = openKeeper();
  await pass();
  const open = await storeStarted(501);
  const [ended = ''] = open;
  await stores.orders.cancel(ended, 'payment_timeout', { force: true });
  temporal.hasSchedule = false;

  await pass();

  expect(temporal.hasSchedule).toBe(true);
  expect(await claimDue()).toEqual(open.slice(1));
  await pass();
  expect(await stores.temporalNamespaces.read('shop')).toBe('made');
});

test('a keeper that dies half-way leaves the rest to the next', async () => {
  const { pass, temporal } = openKeeper();
  await pass();
  const open = await storeStarted(3);
  temporal.hasSchedule = false;
  const requeue = () => Promise.reject(new Error('died here'));
  const dying = openKeeper({ orderClaims: { ...stores.orderClaims, requeue } });
  await expect(dying.pass()).rejects.toThrow('died here');
  // Another worker, or an operator, makes the schedule meanwhile.
  temporal.hasSchedule = true;

  await pass();

  expect(await claimDue()).toEqual(open);
  expect(await stores.temporalNamespaces.read('shop')).toBe('made');
});

test('a keeper that is to stop leaves the mark to the next', async () => {
  await openKeeper().pass();
  const open = await storeStarted(1);
  const stopping = new AbortController();
  const stopped = openKeeper({
    signal: stopping.signal,
    refundClaims: {
      ...stores.refundClaims,
      listOpen: async () => {
        stopping.abort();
        return [];
      },
    },
  });

  await stopped.pass();

  expect(stopped.temporal.hasSchedule).toBe(false);
  expect(await stores.temporalNamespaces.read('shop')).toBe('lost');
  expect(await claimDue()).toEqual(open);
});
