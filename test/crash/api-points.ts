/**
 * Crash points of the API: it dies in a call of a shopper or
 * of the provider, and both repeat what was not answered.
 */

import { expect } from 'vitest';
import { selectOne } from '../support/rows.ts';
import { orderOf, pressPay, sessionOf, type Reply, type Shopper } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';
import { awaitStart } from '../support/workflows/start.ts';
import type { CrashWorld } from './crash-world.ts';
import {
  expectLamps,
  expectNothingDue,
  payAndSettle,
  payAt,
  readLamps,
  releaseSlot,
  takeSlot,
  type Point,
} from './shared-steps.ts';

interface Buyer {
  shopper: Shopper;
  /** Awaits its payment. */
  orderNo: string;
}

async function buy(world: CrashWorld): Promise<Buyer> {
  const shopper = await world.shopper();
  const orderNo = await shopper.buy(world.saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  return { shopper, orderNo };
}

/** The call during which the API dies. */
async function expectNoAnswer(call: Promise<Reply>, { awaitDeath }: CrashWorld): Promise<void> {
  await expect(call).rejects.toThrow('fetch failed');
  await awaitDeath();
}

/** The API dies during the provider's notice. */
async function buyAndPay(world: CrashWorld, { isBegun } = { isBegun: true }): Promise<Buyer> {
  const buyer = await buy(world);
  if (isBegun) await awaitStart(world.client, buyer.orderNo);
  await payAt(sessionOf(await buyer.shopper.pay(buyer.orderNo)).url);
  await world.awaitDeath();
  return buyer;
}

const countNotices = ({ stores }: CrashWorld) =>
  selectOne(stores.pool, 'SELECT COUNT(*) AS notices FROM payment_events');

const expectPaid = async (world: CrashWorld, { shopper, orderNo }: Buyer) => {
  await shopper.awaitStatus(orderNo, 'paid');
  await waitFor('the provider to be answered', () => world.deliveries() === 1);
  expect(await countNotices(world)).toEqual({ notices: 1 });
  await expectLamps(world, { available: 9, held: 0, sold: 1 });
  return { [orderNo]: 'paid' } as const;
};

async function expectPaidInMysqlAlone(world: CrashWorld, { orderNo }: Buyer): Promise<void> {
  expect((await world.stores.orders.read(orderNo))?.state).toMatchObject({ status: 'paid', version: 2 });
  expect(await readLamps(world)).toEqual({ redis: { held: 1, sold: 0 }, mysql: { held: 0, sold: 1 } });
}

/** The shopper comes back, and pays in the one session there is. */
async function payAgain(world: CrashWorld, { shopper, orderNo }: Buyer) {
  const { paymentSessions } = world.stores;
  const before = await paymentSessions.listOpen(orderNo);
  // Recorded, and not opened at the provider.
  expect(before).toMatchObject([{ orderNo, providerSessionId: null, url: null }]);

  await world.takeOver();
  const { url } = sessionOf(await shopper.pay(orderNo));
  expect(await paymentSessions.listOpen(orderNo)).toMatchObject([{ sessionId: before[0]?.sessionId, url }]);
  await payAt(url);
  return expectPaid(world, { shopper, orderNo });
}

/** The API dies while a caller waits for its order to be stored; no worker runs until then. */
async function buyWaiting(world: CrashWorld) {
  const shopper = await world.shopper();
  const buyOnce = () =>
    shopper.placeOrder(
      { saleId: world.saleId, items: [{ sku: 'lamp', quantity: 1 }], onTimeout: 'cancel' },
      { 'idempotency-key': 'one-purchase', prefer: 'wait=7' },
    );
  await expectNoAnswer(buyOnce(), world);
  const stored = await selectOne(world.stores.pool, 'SELECT COUNT(*) AS orders FROM orders');
  const waiting = await world.outboxLength();

  await world.takeOver();
  const repeated = await buyOnce();
  expect(repeated.status).toBe(200);
  const { orderNo } = orderOf(repeated);
  await payAndSettle(shopper, orderNo);
  await expectLamps(world, { available: 9, held: 0, sold: 1 });
  return { orderNo, stored, waiting };
}

export const apiPoints: Point[] = [
  {
    name: 'API: an order whose caller waits is stored, and neither shown nor answered',
    doom: { part: 'api', cue: 'stored', withoutOther: true },
    async scenario(world) {
      const { orderNo, stored, waiting } = await buyWaiting(world);
      expect([stored, waiting]).toEqual([{ orders: 1 }, 1]);
      return { [orderNo]: 'paid' };
    },
  },
  {
    name: 'API: an order is reserved, and the shopper not answered',
    doom: { part: 'api', cue: 'reserved' },
    async scenario(world) {
      const shopper = await world.shopper();
      const buyOnce = () =>
        shopper.placeOrder(
          { saleId: world.saleId, items: [{ sku: 'lamp', quantity: 1 }] },
          { 'idempotency-key': 'one-purchase' },
        );
      await expectNoAnswer(buyOnce(), world);

      await world.takeOver();
      const repeated = await buyOnce();
      expect(repeated.status).toBe(200);
      const { orderNo } = orderOf(repeated);
      await payAndSettle(shopper, orderNo);

      await expectLamps(world, { available: 9, held: 0, sold: 1 });
      return { [orderNo]: 'paid' };
    },
  },
  {
    name: 'API: the notice that pays for an order is committed, and the provider is not answered',
    doom: { part: 'api', cue: 'paid-by-notice' },
    async scenario(world) {
      const buyer = await buyAndPay(world);
      expect([await countNotices(world), world.deliveries()]).toEqual([{ notices: 1 }, 0]);
      await expectPaidInMysqlAlone(world, buyer);

      await world.takeOver();
      return expectPaid(world, buyer);
    },
  },
  {
    name: 'API: an order is paid, and Redis is about to be told',
    doom: { part: 'api', cue: 'about-to-follow' },
    async scenario(world) {
      const buyer = await buyAndPay(world);
      await expectPaidInMysqlAlone(world, buyer);

      await world.takeOver();
      return expectPaid(world, buyer);
    },
  },
  {
    name: 'API: an order is paid that no workflow has begun, and Redis is about to be told',
    doom: { part: 'api', cue: 'about-to-follow', env: { ENGINE_BUDGET: '1' } },
    hasNoWorkflow: true,
    async scenario(world) {
      await takeSlot(world);
      const buyer = await buyAndPay(world, { isBegun: false });
      await expectPaidInMysqlAlone(world, buyer);

      await world.takeOver();
      const outcome = await expectPaid(world, buyer);
      // The engine has room again: nothing is started for it.
      await releaseSlot(world);
      await expectNothingDue(world, buyer.orderNo);
      return outcome;
    },
  },
  {
    name: 'API: Redis has been told that an order is paid, and MySQL does not know that it was',
    doom: { part: 'api', cue: 'followed' },
    async scenario(world) {
      const buyer = await buyAndPay(world);
      expect(await readLamps(world)).toEqual({ redis: { held: 0, sold: 1 }, mysql: { held: 0, sold: 1 } });

      await world.takeOver();
      const outcome = await expectPaid(world, buyer);
      await expectNothingDue(world, buyer.orderNo);
      return outcome;
    },
  },
  {
    name: 'API: Redis has been told that an order is paid, and its workflow has not',
    doom: { part: 'api', cue: 'before-signal' },
    async scenario(world) {
      const buyer = await buyAndPay(world);

      await world.takeOver();
      return expectPaid(world, buyer);
    },
  },
  {
    name: "API: a shopper's cancel is committed, and neither answered nor signalled to the workflow",
    doom: { part: 'api', cue: 'cancel-requested' },
    async scenario(world) {
      const { shopper, orderNo } = await buy(world);
      await expectNoAnswer(shopper.cancel(orderNo), world);
      expect((await world.stores.orders.read(orderNo))?.state.reason).toBe('shopper_request');

      await world.takeOver();
      await shopper.awaitStatus(orderNo, 'cancelled');
      const repeated = await shopper.cancel(orderNo);

      expect(repeated.status).toBe(200);
      expect(orderOf(repeated)).toMatchObject({ status: 'cancelled', reason: 'shopper_request' });
      await expectLamps(world, { available: 10, held: 0, sold: 0 });
      return { [orderNo]: 'cancelled' };
    },
  },
  {
    name: 'API: the provider has opened a session, and it is not recorded',
    doom: { part: 'api', cue: 'session-at-provider' },
    async scenario(world) {
      const buyer = await buy(world);
      await expectNoAnswer(buyer.shopper.pay(buyer.orderNo), world);
      return payAgain(world, buyer);
    },
  },
  {
    name: 'API: the provider has opened a session, it is not recorded, and the shopper cancels',
    doom: { part: 'api', cue: 'session-at-provider' },
    async scenario(world) {
      const { shopper, orderNo } = await buy(world);
      await expectNoAnswer(shopper.pay(orderNo), world);
      const sessions = await world.stores.paymentSessions.listOpen(orderNo);

      await world.takeOver();
      expect((await shopper.cancel(orderNo)).status).toBe(202);
      await shopper.awaitStatus(orderNo, 'cancelled');

      // Another request gets the same session, and it takes no money.
      const opened = await Promise.all(sessions.map(world.provider.openSession));
      const replies = await Promise.all(opened.map(({ url }) => pressPay(url)));
      expect(replies.map(({ status }) => status)).toEqual([409]);
      await expectLamps(world, { available: 10, held: 0, sold: 0 });
      return { [orderNo]: 'cancelled' };
    },
  },
];
