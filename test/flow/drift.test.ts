/**
 * Drift is put in by hand, in each direction: it is found and named, repaired or parked, and written down. A
 * busy sale without faults is never touched.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { createOrderEngine } from '../../src/engine/order-engine.ts';
import { modify } from '../../src/mysql/connection.ts';
import { RECONCILE_STEPS } from '../../src/reconcile/steps.ts';
import { orderKeys, saleKeys } from '../../src/redis/keys.ts';
import type { StepReport } from '../../src/workflows/contract.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { keep } from '../support/keep.ts';
import { select, selectOne } from '../support/rows.ts';
import { orderOf, pressPay, sessionOf } from '../support/shopper.ts';
import { signer } from '../support/signer.ts';
import { expectStock } from '../support/stock.ts';
import { silent } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

let checkout: Checkout;
beforeAll(async () => {
  checkout = await openCheckout();
});
afterEach(() => expectCleanAudit(checkout));

/** The steps that compare and repair, in their order. @returns what they did, added up */
async function reconcile(names = ['holds', 'order-books', 'drift']): Promise<StepReport> {
  const { stores, provider, client } = checkout;
  const engine = createOrderEngine(client, { eager: false });
  const deps = { ...stores, engine, provider, signer, keep, log: silent };
  const sum = { looked: 0, repaired: 0, parked: 0 };
  for (const name of names) {
    const report = await RECONCILE_STEPS.get(name)?.(deps, new AbortController().signal);
    if (!report) throw new Error(`no step ${name}`);
    for (const count of ['looked', 'repaired', 'parked'] as const) sum[count] += report[count];
  }
  return sum;
}

interface Stage {
  saleId: string;
  /** Of a shopper who bought two lamps. */
  paid: string;
  /** Of another, who has one lamp in the cart and may pay. */
  open: string;
  owner: string;
  buyer: string;
}

/** Ten lamps: two sold, one held. */
async function openStage(): Promise<Stage> {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const [owner, buyer] = [await checkout.shopper(), await checkout.shopper()];
  const paid = await owner.buy(saleId, 'lamp', 2);
  await owner.awaitStatus(paid, 'awaiting_payment');
  await pressPay(sessionOf(await owner.pay(paid)).url);
  await owner.awaitStatus(paid, 'paid');
  const open = await buyer.buy(saleId);
  await buyer.awaitStatus(open, 'awaiting_payment');
  await expectStock(checkout.stores, saleId, AT_REST);
  expect(await reconcile()).toMatchObject({ repaired: 0, parked: 0 });
  return { saleId, paid, open, owner: owner.userId, buyer: buyer.userId };
}

const LAMP = { sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 3, limitPerUser: null };
const AT_REST = { sku: 'lamp', available: 7, held: 1, sold: 2 };

const keysOf = (saleId: string) => saleKeys({ saleId, shard: 0 });

async function actionsOn(subject: string) {
  return select(
    checkout.stores.pool,
    'SELECT actor, action, detail FROM audit_log WHERE subject = ? ORDER BY entry_id',
    [subject],
  );
}

const parkedNow = (reference: string) =>
  select(
    checkout.stores.pool,
    'SELECT kind, cause FROM parked WHERE reference = ? AND resolved_at IS NULL ORDER BY kind',
    [reference],
  );

/** Of the sale, as the last run published it. */
async function published(saleId: string) {
  const drift = await checkout.stores.driftBoard.read();
  return drift?.entries
    .filter((entry) => entry.saleId === saleId)
    .map(({ what, units }) => `${what} ${units}`);
}

const COUNTS = { total: 10, available: 7, held: 1, sold: 2 };

test('counts in Redis that are off, up or down, are corrected', async () => {
  const { saleId } = await openStage();
  const off = [
    ['available', 1],
    ['available', -1],
    ['held', 1],
    ['held', -1],
    ['sold', 1],
    ['sold', -2],
    ['total', 5],
  ] as const;

  for (const [field, units] of off) {
    await checkout.stores.redis.hincrby(keysOf(saleId).stock, `lamp:${field}`, units);
    expect(await reconcile()).toMatchObject({ repaired: 1, parked: 0 });
    await expectStock(checkout.stores, saleId, AT_REST);
    expect(await published(saleId)).toEqual([`${field} ${units}`]);
  }

  const actions = await actionsOn(`sale ${saleId} lamp`);
  expect(actions.map(({ actor, action }) => [actor, action])).toEqual(
    off.map(() => ['holdfast', 'stock_corrected']),
  );
  for (const [i, [field, units]] of off.entries())
    expect(JSON.parse(String(actions[i]?.['detail']))).toMatchObject({
      before: { [field]: COUNTS[field] + units },
      after: COUNTS,
    });
  expect(await reconcile()).toMatchObject({ repaired: 0 });
  expect(await published(saleId)).toEqual([]);
});

test('while a change of the sale is on its way nothing is taken for drift, and afterwards drift is mended', async () => {
  const { saleId } = await openStage();
  const { saleChanges, saleStock, sales, redis } = checkout.stores;
  const sale = await sales.read(saleId);
  if (!sale) throw new Error('no sale');
  const skus = [...sale.sale.skus.map((item) => ({ ...item, total: 15 })), { ...LAMP, sku: 'new' }];
  const changed = { ...sale.sale, skus };
  const ask = { action: 'put', sale: changed, isDraft: false, ifMatch: undefined, isNew: false } as const;
  const recorded = await saleChanges.record(ask, { actor: 'grace', reason: null });
  if (recorded.kind !== 'recorded') throw new Error(recorded.kind);
  expect(await reconcile()).toMatchObject({ repaired: 0, parked: 0 });
  // Redis has made it, and MySQL does not know yet.
  await saleStock.change(recorded.change, async () => true);
  await redis.hincrby(keysOf(saleId).stock, 'lamp:available', 1);
  expect(await reconcile()).toMatchObject({ repaired: 0, parked: 0 });
  // That it is not compared is shown from the third run on, until it is.
  expect(await reconcile()).toMatchObject({ repaired: 0, parked: 1 });
  expect(await parkedNow(saleId)).toEqual([{ kind: 'sale', cause: 'sale_not_compared' }]);
  expect(await published(saleId)).toEqual([]);

  expect(await saleChanges.complete(recorded.change, saleStock)).toEqual({ kind: 'applied' });
  expect(await reconcile()).toMatchObject({ repaired: 1, parked: 0 });
  expect(await parkedNow(saleId)).toEqual([]);
  await expectStock(checkout.stores, saleId, { ...AT_REST, available: 12 });
});

test('a hold that was removed is written again, and the order can be paid', async () => {
  const { saleId, open, buyer } = await openStage();
  const { order, deadlines } = orderKeys(open);
  await checkout.stores.redis.del(order);
  await checkout.stores.redis.zrem(deadlines, open);
  expect(await reconcile()).toMatchObject({ repaired: 1, parked: 0 });
  expect(await actionsOn(open)).toMatchObject([{ actor: 'holdfast', action: 'hold_restored' }]);
  const shopper = await checkout.shopper(buyer);
  await pressPay(sessionOf(await shopper.pay(open)).url);
  await shopper.awaitStatus(open, 'paid');
  await expectStock(checkout.stores, saleId, { sku: 'lamp', available: 7, held: 0, sold: 3 });
});

test('a hold that was released while its order is open is taken again', async () => {
  const { saleId, open } = await openStage();
  await checkout.stores.reservations.release(open);
  expect(await published(saleId)).toEqual([]);
  expect((await reconcile()).repaired).toBeGreaterThanOrEqual(2);
  await expectStock(checkout.stores, saleId, AT_REST);
  expect(await actionsOn(open)).toMatchObject([{ action: 'hold_restored' }]);
});

test('a hold that is left over from an order that has ended is ended, and its units are counted once', async () => {
  const { saleId, paid } = await openStage();
  // A hold is left to the order's workflow for as long as that runs.
  await checkout.client.workflow.getHandle(paid).result();
  const { order, deadlines } = orderKeys(paid);
  await checkout.stores.redis.hset(order, 'hold', 'held');
  await checkout.stores.redis.zadd(deadlines, Date.now(), paid);
  await reconcile();
  await reconcile();
  await expectStock(checkout.stores, saleId, AT_REST);
  expect(await actionsOn(paid)).toMatchObject([{ action: 'hold_settled' }]);
  expect(await actionsOn(`sale ${saleId} lamp`)).toMatchObject([{ action: 'stock_corrected' }]);
});

test("a user's limit that was changed, up or down or to nothing, is corrected", async () => {
  const { saleId, owner } = await openStage();
  const { limits } = keysOf(saleId);
  const field = `lamp:${owner}`;
  const { redis } = checkout.stores;

  for (const units of [3, -1, -2]) {
    if ((await redis.hincrby(limits, field, units)) === 0) await redis.hdel(limits, field);
    await redis.hset(limits, 'lamp:nobody', 1);
    expect(await reconcile()).toMatchObject({ repaired: 2, parked: 0 });
    expect(await redis.hget(limits, field)).toBe('2');
    expect(await redis.hexists(limits, 'lamp:nobody')).toBe(0);
  }

  const actions = await actionsOn(`sale ${saleId} lamp`);
  expect(actions.map(({ action }) => action)).toEqual(Array(6).fill('limit_corrected'));
});

test("MySQL's counts that are off are set to what ledger and orders say", async () => {
  const { saleId } = await openStage();
  const off = [
    ['held', 2],
    ['held', -1],
    ['sold', 1],
    ['sold', -2],
  ] as const;

  for (const [column, units] of off) {
    await modify(
      checkout.stores.pool,
      `UPDATE skus SET ${column} = ${column} + ? WHERE sale_id = ? AND sku = 'lamp'`,
      [units, saleId],
    );
    expect(await reconcile()).toMatchObject({ repaired: 1, parked: 0 });
    await expectStock(checkout.stores, saleId, AT_REST);
  }

  const actions = await actionsOn(`sale ${saleId} lamp`);
  expect(actions).toHaveLength(off.length);
  for (const action of actions) {
    expect(action).toMatchObject({ actor: 'holdfast', action: 'counters_corrected' });
    expect(JSON.parse(String(action['detail']))).toMatchObject({ after: { held: 1, sold: 2 } });
  }
  expect(await reconcile()).toMatchObject({ repaired: 0, parked: 0 });
});

test("an order's row that was changed by hand is parked, and nothing follows it", async () => {
  const { saleId, open, buyer } = await openStage();
  await modify(checkout.stores.pool, `UPDATE orders SET status = 'cancelled' WHERE order_no = ?`, [open]);
  expect(await reconcile()).toMatchObject({ repaired: 0, parked: 1 });
  expect(await parkedNow(open)).toEqual([{ kind: 'order', cause: 'order_inconsistent' }]);
  expect(await checkout.stores.redis.hget(orderKeys(open).order, 'hold')).toBe('held');
  await modify(checkout.stores.pool, `UPDATE orders SET status = 'awaiting_payment' WHERE order_no = ?`, [
    open,
  ]);
  expect(await reconcile()).toMatchObject({ repaired: 0, parked: 0 });
  expect(await parkedNow(open)).toEqual([]);
  const shopper = await checkout.shopper(buyer);
  expect(orderOf(await shopper.getOrder(open))).toMatchObject({ status: 'awaiting_payment' });
  await expectStock(checkout.stores, saleId, AT_REST);
});

test('a ledger that contradicts the orders is parked with its SKU and its order, and nothing is guessed', async () => {
  const { saleId, paid } = await openStage();
  const { pool, redis } = checkout.stores;
  const before = await redis.hgetall(keysOf(saleId).stock);
  const entry = await selectOne(pool, `SELECT * FROM stock_ledger WHERE order_no = ? AND movement = 'sell'`, [
    paid,
  ]);
  await modify(pool, 'DELETE FROM stock_ledger WHERE entry_id = ?', [entry['entry_id']]);
  expect(await reconcile()).toMatchObject({ repaired: 0, parked: 2 });
  expect(await parkedNow(paid)).toEqual([{ kind: 'order', cause: 'order_inconsistent' }]);
  expect(await parkedNow(`${saleId} lamp`)).toEqual([{ kind: 'sale', cause: 'stock_unexplained' }]);
  expect(await redis.hgetall(keysOf(saleId).stock)).toEqual(before);
  await modify(
    pool,
    `INSERT INTO stock_ledger (sale_id, sku, order_no, movement, quantity) VALUES (?, 'lamp', ?, 'sell', 2)`,
    [saleId, paid],
  );
  expect(await reconcile()).toMatchObject({ repaired: 0, parked: 0 });
  expect([...(await parkedNow(paid)), ...(await parkedNow(`${saleId} lamp`))]).toEqual([]);
});

test('a SKU whose counters are gone from Redis has its sale made again from MySQL', async () => {
  const { saleId } = await openStage();
  await checkout.stores.redis.hdel(keysOf(saleId).stock, 'lamp:available');
  expect((await reconcile()).repaired).toBeGreaterThanOrEqual(1);
  expect(await published(saleId)).toContain('lost 1');
  await expectStock(checkout.stores, saleId, AT_REST);
  expect(await actionsOn(`sale ${saleId}`)).toMatchObject([{ actor: 'holdfast', action: 'sale_rebuilt' }]);
});

test('drift in a busy sale is corrected while it goes on', async () => {
  const { saleId } = await checkout.stores.openSale(busySale());
  let isCorrected = false;
  const traffic = trade(saleId, 8, MAX_ORDERS_EACH, () => isCorrected);
  await checkout.stores.redis.hincrby(keysOf(saleId).stock, 'lamp:available', 7);
  try {
    // A look that traffic crosses decides nothing.
    await waitFor('the correction', async () => (await reconcile()).repaired > 0);
  } finally {
    isCorrected = true;
  }
  const ordersOf = await traffic;

  expect(Math.max(...ordersOf), 'orders of a shopper until the correction').toBeLessThan(MAX_ORDERS_EACH);
  expect(await actionsOn(`sale ${saleId} lamp`)).toMatchObject([{ action: 'stock_corrected' }]);
  const held = sum(ordersOf.map((orders) => Math.floor(orders / 3)));
  const sold = sum(ordersOf.map((orders) => Math.ceil(orders / 3)));
  await expectStock(checkout.stores, saleId, { sku: 'lamp', available: 1_000 - held - sold, held, sold });
});

test('a busy sale without faults is never touched', async () => {
  const { saleId } = await checkout.stores.openSale(busySale());
  const traffic = trade(saleId, 8, 6);
  let looked = 0;
  let isOver = false;
  while (!isOver) {
    const report = await reconcile();
    expect(report).toMatchObject({ repaired: 0, parked: 0 });
    looked += report.looked;
    isOver = await Promise.race([traffic.then(() => true), delay(0, false)]);
  }
  expect(looked).toBeGreaterThan(0);
  expect(await actionsOn(`sale ${saleId} lamp`)).toEqual([]);
});

function busySale() {
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000, limitPerUser: 50 }];
  return buildSale({ skus });
}

/** Two of three take a unit, of which a shopper may have 50. */
const MAX_ORDERS_EACH = 75;

const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0);

/**
 * Shoppers who pay each first order, cancel each second one and leave each third one open.
 * @param isOver ends it before each has `ordersEach`
 * @returns the orders of each shopper
 */
async function trade(
  saleId: string,
  shoppers: number,
  ordersEach: number,
  isOver = () => false,
): Promise<number[]> {
  return Promise.all(
    Array.from({ length: shoppers }, async () => {
      const shopper = await checkout.shopper();
      let i = 0;
      for (; i < ordersEach && !isOver(); i += 1) {
        const orderNo = await shopper.buy(saleId);
        await shopper.awaitStatus(orderNo, 'awaiting_payment');
        if (i % 3 === 0) await pressPay(sessionOf(await shopper.pay(orderNo)).url);
        if (i % 3 === 1) await shopper.cancel(orderNo);
      }
      return i;
    }),
  );
}
