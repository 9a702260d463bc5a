/** The walk over the orders of a look has those that were held at its moment, whatever happens meanwhile. */

import * as fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import { createHeldWalk } from '../../src/reconcile/mends.redis.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildSale } from '../support/factories.ts';
import { assertProperty } from '../support/property.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

/** More than half of what is reserved within a millisecond. */
const PAGE_SIZE = 3;

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const moves = fc.array(
  fc.record({ what: fc.constantFrom('reserve', 'release', 'confirm', 'restore'), pick: fc.nat(40) }),
  { maxLength: 4 },
);
type Moves = typeof moves extends fc.Arbitrary<infer T> ? T : never;

/** A sale, and what is done to its orders. */
async function openStage() {
  const skus = [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null }];
  const { saleId } = await stores.openSale(buildSale({ skus }));
  const { deadlines } = saleKeys({ saleId, shard: 0 });
  const orders: Order[] = [];

  async function move({ what, pick }: Moves[number]): Promise<void> {
    if (what === 'reserve') orders.push(await acceptOrder(stores, saleId));
    const order = orders[pick % Math.max(1, orders.length)];
    if (!order || what === 'reserve') return;
    if (what === 'release') await stores.reservations.release(order.orderNo);
    if (what === 'confirm') await stores.reservations.confirm(order.orderNo);
    if (what !== 'restore' || (await listHeld()).includes(order.orderNo)) return;
    const state = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null } as const;
    const untilMs = (await stores.saleMends.readTimeMs(saleId)) + 60_000;
    await stores.saleMends.restoreHold(order, state, { epoch: 1, untilMs });
  }

  const listHeld = () => stores.redis.zrange(deadlines, '0', '-1');
  return {
    saleId,
    orders,
    listHeld,
    async moveAll(all: Moves): Promise<void> {
      for (const one of all) await move(one);
    },
  };
}

test('it has each order once that was held at the moment, and misses none of the others that were not', () =>
  assertProperty(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 12 }),
      moves,
      fc.array(moves, { minLength: 6, maxLength: 6 }),
      async (count, before, between) => {
        const { saleId, orders, listHeld, moveAll } = await openStage();
        for (let i = 0; i < count; i += 1) await moveAll([{ what: 'reserve', pick: 0 }]);
        await moveAll(before);

        const look = await stores.saleMends.look(saleId, []);
        if (look.kind !== 'looked') throw new Error(look.kind);
        const held = await listHeld();
        const gone = orders.map(({ orderNo }) => orderNo).filter((orderNo) => !held.includes(orderNo));
        const walk = createHeldWalk(stores.redis, saleId, look, PAGE_SIZE);
        const rest = [...between];
        await moveAll(rest.shift() ?? []);
        const walked: string[] = [];
        for await (const page of walk.pages()) {
          for (const { orderNo, cart } of page) {
            expect(cart).toMatchObject({ items: [{ sku: 'lamp', quantity: 1 }] });
            walked.push(orderNo);
          }
          await moveAll(rest.shift() ?? []);
        }

        expect(walked.toSorted()).toEqual(held.toSorted());
        const now = await listHeld();
        const notHeld = await walk.filterNotHeld(orders.map(({ orderNo }) => orderNo));
        expect(notHeld.filter((orderNo) => held.includes(orderNo) || now.includes(orderNo))).toEqual([]);
        // One that was restored since and has ended again was held for a while.
        const noted = await stores.redis.lrange(saleKeys({ saleId, shard: 0 }).moves, 0, -1);
        const untouched = gone.filter((orderNo) => !noted.includes(`+${orderNo}`));
        expect(notHeld).toEqual(expect.arrayContaining(untouched));
      },
    ),
    { numRuns: 150 },
  ));
