/** The relay's refund starter: due refunds are claimed and started as workflows, each once. */

import { beforeAll, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { selectRows } from '../../src/mysql/connection.ts';
import { createEngineBudget } from '../../src/redis/budget.ts';
import { createEngineGate, type RefundStarterDeps, startDueRefunds } from '../../src/workers/starter.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { readRefundWorkflowId } from '../support/refund-workflow.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

/** More than one pass takes. */
const MANY = 13;
const PASS_MAX = 10;
/** Slots of the engine, of which starts have room for more than one pass takes. */
const PLENTY = 16 * MANY;

const byId = (a: number, b: number): number => a - b;

let shared: TestStores;
let saleId: string;
beforeAll(async () => {
  shared = await openTestStores();
  ({ saleId } = await shared.openSale(buildSale()));
});
// What is due is due in all sales, and all share the slots: each test begins with nothing.
beforeEach(async () => {
  await shared.pool.query('DELETE FROM payments');
  await shared.redis.flushall();
});

function openStarter({ slots = 50 }: { slots?: number } = {}) {
  const stores = { ...shared, budget: createEngineBudget(shared.redis, slots, silent) };
  const started: number[] = [];
  const failing = new Set<number>();
  const engine: RefundStarterDeps['engine'] = {
    async startRefund({ paymentId }) {
      if (failing.has(paymentId)) throw new Error('14 UNAVAILABLE');
      started.push(paymentId);
    },
  };
  const gate = createEngineGate(stores.budget, silent);
  const deps = { ...stores, engine, gate };
  return {
    stores,
    started,
    failing,
    pass: () => startDueRefunds(deps),
    /** Money of an order that has ended: due to be refunded. */
    async owe(): Promise<number> {
      const order = buildOrder({ saleId });
      await stores.orders.abandon(order, 'unknown_sku');
      const { orderNo, total: amount, currency } = order;
      const providerPaymentId = `pay-${orderNo}`;
      await stores.payments.record('sandbox', {
        providerPaymentId,
        orderNo,
        amount,
        currency,
        signedOrder: null,
      });
      const [row] = await selectRows(
        stores.pool,
        z.object({ payment_id: z.int() }),
        'SELECT payment_id FROM payments WHERE provider_payment_id = ?',
        [providerPaymentId],
      );
      return row?.payment_id ?? 0;
    },
    slotOf: (paymentId: number): Promise<string> => readRefundWorkflowId(stores.pool, paymentId),
    /** Those that any relay might claim now. */
    async due(): Promise<number[]> {
      return (await stores.refundClaims.take(100)).map(({ paymentId }) => paymentId);
    },
  };
}

test('the refund of each payment that is to go back is started once', async () => {
  const { started, pass, owe } = openStarter();
  const owed = [await owe(), await owe()];

  await pass();
  await pass();

  expect(started.toSorted(byId)).toEqual(owed.toSorted(byId));
});

test('with nothing due it pauses', async () => {
  const { started, pass } = openStarter();
  expect(await pass()).toBeGreaterThan(0);
  expect(started).toEqual([]);
});

test('a pass takes a few, so that orders find room beside them; the next takes the rest', async () => {
  const { started, pass, owe, slotOf, stores } = openStarter({ slots: PLENTY });
  const owed: number[] = [];
  for (let i = 0; i < MANY; i += 1) owed.push(await owe());

  await pass();
  expect(started).toHaveLength(PASS_MAX);
  await stores.budget.release(await Promise.all(started.map(slotOf)));
  await pass();

  expect(started.toSorted(byId)).toEqual(owed.toSorted(byId));
});

test('a refund holds a slot of the engine until its first step gives it back', async () => {
  const { started, pass, owe, slotOf, stores } = openStarter({ slots: 1 });
  const owed = [await owe(), await owe()];

  await pass();
  await pass();
  expect(started).toHaveLength(1);
  await stores.budget.release(await Promise.all(started.map(slotOf)));
  await pass();

  expect(started.toSorted(byId)).toEqual(owed.toSorted(byId));
});

test('without room nothing is claimed', async () => {
  const { started, pass, owe, due, stores } = openStarter({ slots: 1 });
  const paymentId = await owe();
  await stores.budget.acquire(['an-order']);

  await pass();

  expect(started).toEqual([]);
  expect(await due()).toEqual([paymentId]);
});

test('a claim that Temporal does not take is released at once, with its slot', async () => {
  const { started, failing, pass, owe, due, stores } = openStarter();
  const [refused, accepted] = [await owe(), await owe()];
  failing.add(refused);

  await pass();

  expect(started).toEqual([accepted]);
  expect(await due()).toEqual([refused]);
  expect(await stores.budget.room()).toBe(49);
});
