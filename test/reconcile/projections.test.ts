/** Changes of orders whose workflow has vanished between MySQL and Redis: pollers see them all the same. */

import { ulid } from 'ulidx';
import { beforeEach, describe, expect, test } from 'vitest';
import type { ProviderPayment, Reversal } from '../../src/money/payment.ts';
import type { Order } from '../../src/orders/content.ts';
import { mendProjections } from '../../src/reconcile/order-books.ts';
import { RECONCILE_STEPS } from '../../src/reconcile/steps.ts';
import { orderKeys } from '../../src/redis/keys.ts';
import type { Stores } from '../../src/stores/open.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { dispatchEvents } from '../support/events.ts';
import { buildSale } from '../support/factories.ts';
import { keep } from '../support/keep.ts';
import { buildPayment, buildReversal, reverse } from '../support/payment-notices.ts';
import { signer } from '../support/signer.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
let saleId: string;
beforeEach(async () => {
  stores = await openTestStores();
  // No refund has anything to give back, which would make its workflow due.
  ({ saleId } = await stores.openSale(buildSale({ refundRestoresLimit: false })));
});

interface Sold {
  order: Order;
  payment: ProviderPayment;
}

/** Accepted and stored; off the outbox, and its workflow has begun. */
async function order(): Promise<Order> {
  const accepted = await acceptOrder(stores, saleId, { userId: `shopper-${ulid()}` });
  await stores.orders.storeOrder(accepted, 'started');
  await project(accepted);
  await stores.redis.del(`holdfast:{${saleId}.0}:outbox`);
  return accepted;
}

/** Paid, and its workflow has ended as it should. */
async function sell(): Promise<Sold> {
  const sold = await order();
  const payment = buildPayment(sold);
  await stores.payments.record('sandbox', payment);
  await stores.reservations.confirm(sold.orderNo);
  await project(sold);
  return { order: sold, payment };
}

async function project({ orderNo }: Order): Promise<void> {
  const stored = await stores.orders.read(orderNo);
  if (stored) await stores.reservations.project(orderNo, stored.state);
}

/** Temporal takes what is due, and loses it before a step of it is done. */
async function loseWork(): Promise<void> {
  await stores.refundClaims.complete(await stores.refundClaims.take(10));
  await stores.orderClaims.complete(await stores.orderClaims.take(10));
}

async function* emptyBook() {}

/** Some minutes later. */
async function age(): Promise<void> {
  await stores.pool.query('UPDATE order_events SET occurred_at = occurred_at - INTERVAL 5 MINUTE');
  await dispatchEvents(stores);
}

/** All steps of the reconciliation, with a Temporal that runs nothing. */
async function reconcile(): Promise<void> {
  await age();
  const deps = {
    ...stores,
    engine: {
      isRunning: async () => false,
      listRunning: async () => new Set<string>(),
      startCallOff: async () => {},
    },
    provider: { name: 'sandbox', listPayments: emptyBook, listReversals: async () => [] },
    signer,
    keep,
    log: silent,
  };
  for (const step of RECONCILE_STEPS.values()) await step(deps, new AbortController().signal);
}

/** The step alone. */
const run = (overrides: Partial<Stores> = {}) =>
  mendProjections({ ...stores, log: silent, ...overrides }, new AbortController().signal);

async function expectTrue({ orderNo }: Order): Promise<void> {
  const [stored, shown] = [await stores.orders.read(orderNo), await stores.reservations.readOrder(orderNo)];
  expect(shown?.state).toEqual(stored?.state);
}

describe('a change whose workflow is lost before it is projected is shown all the same', () => {
  const dispute = ({ payment }: Sold, change: Partial<Reversal> = {}) =>
    buildReversal(payment, { kind: 'dispute', status: 'pending', ...change });

  test.each<[what: string, version: number, change: (sold: Sold) => Promise<unknown>]>([
    ['a dispute', 3, (sold) => reverse(stores, dispute(sold))],
    [
      'a dispute that the shop has won',
      4,
      async (sold) => {
        const opened = dispute(sold);
        await reverse(stores, opened);
        await project(sold.order);
        await reverse(stores, { ...opened, status: 'failed' });
      },
    ],
    [
      'a dispute that the shop has lost',
      3,
      (sold) => reverse(stores, dispute(sold, { status: 'succeeded' })),
    ],
    [
      'a refund of a part by provider staff',
      3,
      ({ payment }) => reverse(stores, buildReversal(payment, { amount: 100 })),
    ],
    ['a refund of all by provider staff', 3, ({ payment }) => reverse(stores, buildReversal(payment))],
    [
      'a refund that has failed after all',
      4,
      async ({ payment, order: sold }) => {
        const made = buildReversal(payment, { amount: 100 });
        await reverse(stores, made);
        await project(sold);
        await reverse(stores, { ...made, status: 'failed' });
      },
    ],
  ])('%s', async (_, version, change) => {
    const sold = await sell();
    await change(sold);
    await loseWork();

    await reconcile();

    expect((await stores.orders.read(sold.order.orderNo))?.state.version).toBe(version);
    await expectTrue(sold.order);
  });

  test('the end of an order whose stock is settled', async () => {
    const [paid, cancelled] = [await order(), await order()];
    await stores.payments.record('sandbox', buildPayment(paid));
    await stores.reservations.confirm(paid.orderNo);
    await stores.orders.cancel(cancelled.orderNo, 'payment_timeout', { force: true });
    await stores.reservations.release(cancelled.orderNo);
    await loseWork();

    await reconcile();

    await expectTrue(paid);
    await expectTrue(cancelled);
  });
});

test('what is shown already is not repaired, and each change is looked at once', async () => {
  const sold = await sell();
  await age();
  expect(await run()).toEqual({ looked: 2, repaired: 0, parked: 0 });

  await reverse(stores, buildReversal(sold.payment));
  await age();

  expect(await run()).toEqual({ looked: 1, repaired: 1, parked: 0 });
  expect(await run()).toEqual({ looked: 0, repaired: 0, parked: 0 });
});

test('a change of a moment ago is left to its workflow, and looked at later', async () => {
  const sold = await sell();
  await age();
  await reverse(stores, buildReversal(sold.payment));
  await stores.pool.query(
    'UPDATE order_events SET occurred_at = NOW(3) + INTERVAL 1 MINUTE WHERE version = 3',
  );
  await dispatchEvents(stores);
  expect(await run()).toEqual({ looked: 2, repaired: 0, parked: 0 });

  await age();

  expect(await run()).toEqual({ looked: 1, repaired: 1, parked: 0 });
});

test('a change that Redis did not take is looked at again by the next run', async () => {
  const sold = await sell();
  await reverse(stores, buildReversal(sold.payment));
  await age();
  const projectAll = () => Promise.reject(new Error('away'));
  await expect(run({ reservations: { ...stores.reservations, projectAll } })).rejects.toThrow('away');

  expect(await run()).toMatchObject({ repaired: 1 });

  await expectTrue(sold.order);
});

test('a damaged order keeps no other one behind', async () => {
  const [damaged, sold, other] = [await sell(), await sell(), await sell()];
  for (const { payment } of [damaged, sold, other]) await reverse(stores, buildReversal(payment));
  // Nor a wish to cancel that its store has not seen.
  const wished = await acceptOrder(stores, saleId, { userId: `shopper-${ulid()}` });
  await stores.reservations.wishCancel(wished.orderNo, 'wait_timeout');
  await stores.orders.storeOrder(wished, 'started');
  await stores.redis.set(orderKeys(damaged.order.orderNo).order, 'no hash');
  await age();

  await run();

  await expectTrue(sold.order);
  await expectTrue(other.order);
  expect((await stores.orders.read(wished.orderNo))?.state.reason).toBe('wait_timeout');
});

test('an order that Redis has no more is left to MySQL', async () => {
  const sold = await sell();
  await reverse(stores, buildReversal(sold.payment));
  await stores.redis.del(orderKeys(sold.order.orderNo).order);
  await age();

  expect(await run()).toEqual({ looked: 3, repaired: 0, parked: 0 });

  expect(await stores.reservations.readOrder(sold.order.orderNo)).toBeUndefined();
});
