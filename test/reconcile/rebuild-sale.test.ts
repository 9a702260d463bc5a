/** A sale's data are made again from MySQL: what Redis has afterwards, and what a rebuild cannot do. */

import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createMysqlPool } from '../../src/mysql/connection.ts';
import { storeWithHold } from '../../src/orders/both-stores.ts';
import { fingerprintOf, type Order } from '../../src/orders/content.ts';
import { rebuildSale, type RebuildCause } from '../../src/reconcile/rebuild-sale.ts';
import { SupersededError } from '../../src/reconcile/rebuild.redis.ts';
import { orderKeys, saleKeys } from '../../src/redis/keys.ts';
import { listWaiting } from '../../src/redis/outbox.ts';
import { mysqlStores } from '../../src/stores/bound.ts';
import { snapshot } from '../lua/raw-scripts.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildOrder, buildReserveRequest, buildSale } from '../support/factories.ts';
import { selectOne } from '../support/rows.ts';
import { expectStock } from '../support/stock.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const rebuild = (saleId: string, cause: RebuildCause = 'lost') =>
  rebuildSale({ ...stores, log: silent }, saleId, { cause });

/** What a loss of all data leaves of this sale. */
async function lose(saleId: string): Promise<void> {
  const keys = await stores.redis.keys(`holdfast:{${saleId}.0}:*`);
  if (keys.length > 0) await stores.redis.del(...keys);
}

async function store(order: Order): Promise<Order> {
  await stores.orders.storeOrder(order, 'due');
  await stores.redis.del(orderKeys(order.orderNo).outbox);
  return order;
}

async function pay(order: Order): Promise<Order> {
  const { orderNo, total: amount, currency } = order;
  await stores.payments.record('sandbox', {
    providerPaymentId: `pay_${orderNo}`,
    orderNo,
    amount,
    currency,
    signedOrder: null,
  });
  return order;
}

/** An open order, a paid one and a cancelled one, of three users; each settled in Redis. */
async function openSale() {
  const { saleId } = await stores.openSale(buildSale());
  const [open, paid, cancelled] = [
    await store(await acceptOrder(stores, saleId, { userId: 'ada' })),
    await pay(
      await store(await acceptOrder(stores, saleId, { userId: 'bo', items: [{ sku: 'lamp', quantity: 2 }] })),
    ),
    await store(await acceptOrder(stores, saleId, { userId: 'cy' })),
  ];
  await stores.reservations.confirm(paid.orderNo);
  await stores.orders.cancel(cancelled.orderNo, 'operator_request', { force: true });
  await stores.reservations.release(cancelled.orderNo);
  return { saleId, open, paid, cancelled };
}

test('a sale that Redis has lost is made again: stock, holds, deadlines, limits and requests', async () => {
  const { saleId, open, paid } = await openSale();
  await lose(saleId);

  expect(await rebuild(saleId)).toMatchObject({ kind: 'rebuilt', epoch: 2, openOrders: 1, requests: 3 });

  await expectStock(stores, saleId, { sku: 'lamp', available: 7, held: 1, sold: 2 });
  const keys = saleKeys({ saleId, shard: 0 });
  expect(await stores.redis.hgetall(keys.limits)).toEqual({ 'lamp:ada': '1', 'lamp:bo': '2' });
  expect(await stores.redis.zrange(keys.deadlines, '0', '-1')).toEqual([open.orderNo]);
  expect(await stores.reservations.lookUp(open.orderNo)).toMatchObject({
    found: { state: { status: 'awaiting_payment', version: 1 }, order: { holdEpoch: 2 } },
    isCertain: true,
  });
  const { idempotencyKey, userId } = paid;
  expect(await stores.redis.hget(keys.idem(userId, idempotencyKey), 'order_no')).toBe(paid.orderNo);
  expect(await stores.redis.pttl(keys.idem(userId, idempotencyKey))).toBeGreaterThan(0);
  expect(await stores.saleStock.checkLife(saleId)).toEqual({ kind: 'well', epoch: 2 });
});

test('after a rebuild the sale sells under the new epoch, and what was open before ends as any order', async () => {
  const { saleId, open } = await openSale();
  const other = await store(await acceptOrder(stores, saleId, { userId: 'di' }));
  await lose(saleId);
  await rebuild(saleId);

  const bought = await acceptOrder(stores, saleId, { userId: 'eve' });
  expect(bought.orderNo).toContain(`${saleId}-0-2-`);
  await stores.orders.cancel(open.orderNo, 'operator_request', { force: true });
  expect(await stores.reservations.release(open.orderNo)).toBe('released');
  expect(await stores.reservations.release(open.orderNo)).toBe('released');
  await pay(other);
  expect(await stores.reservations.confirm(other.orderNo)).toBe('sold');
  await store(bought);
  await expectStock(stores, saleId, { sku: 'lamp', available: 6, held: 1, sold: 3 });
});

test('the shopper who repeats a request after a rebuild gets the same order', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const items = [{ sku: 'lamp', quantity: 1 }];
  const order = await store(await acceptOrder(stores, saleId, { items }));
  await lose(saleId);
  await rebuild(saleId);
  const { idempotencyKey, userId } = order;
  const entry = await stores.redis.hgetall(orderKeys(order.orderNo).idem(userId, idempotencyKey));
  const request = buildReserveRequest({
    saleId,
    items,
    idempotencyKey,
    fingerprint: String(entry['fingerprint']),
  });
  expect(await stores.reservations.reserve(request)).toEqual({ kind: 'repeated', orderNo: order.orderNo });
});

test('what was given back of a refunded order stays given back, and is not given twice', async () => {
  const { saleId, paid } = await openSale();
  await stores.pool.query('UPDATE order_items SET limit_returned = quantity WHERE order_no = ?', [
    paid.orderNo,
  ]);
  await stores.pool.query(
    `INSERT INTO refunds (refund_id, order_no, payment_id, kind, amount, target, items, restock, restores_limit,
       given_back, limit_given, actor, status)
     SELECT 7, order_no, 1, 'rule', 0, 0, '[{"sku":"lamp","quantity":1}]', FALSE, TRUE, TRUE, TRUE, 'rules', 'succeeded'
     FROM orders WHERE order_no = ?`,
    [paid.orderNo],
  );
  await lose(saleId);
  await rebuild(saleId);
  const before = await snapshot(stores.redis, saleId);
  expect(await stores.reservations.giveBack({ ...paid, part: 'rule', limit: true, stock: false })).toEqual({
    kind: 'returned',
  });
  expect(await snapshot(stores.redis, saleId)).toEqual(before);
  expect(await stores.redis.hget(saleKeys({ saleId, shard: 0 }).limits, 'lamp:bo')).toBeNull();
});

test('a pause of the shop outlives the rebuild', async () => {
  const { saleId } = await stores.openSale(buildSale({ paused: true }));
  await lose(saleId);
  await rebuild(saleId);
  expect(await stores.reservations.reserve(buildReserveRequest({ saleId }))).toEqual({ kind: 'paused' });
});

test('old data of a restored file are replaced: no hold, limit or mark of them counts', async () => {
  const { saleId, cancelled, open } = await openSale();
  // The file is from before the cancel, and holds an order that MySQL never had.
  const unknown = await acceptOrder(stores, saleId, { userId: 'fay' });
  await stores.redis.del(orderKeys(unknown.orderNo).outbox);
  const keys = orderKeys(cancelled.orderNo);
  await stores.redis.hset(keys.order, 'hold', 'held', 'version', '0', 'status', 'queued');
  await stores.redis.persist(keys.order);
  await stores.redis.zadd(keys.deadlines, '1', cancelled.orderNo);
  await stores.redis.hset(keys.limits, 'lamp:cy', '1');

  await rebuild(saleId, 'replaced');

  expect(await stores.redis.hgetall(keys.limits)).toEqual({ 'lamp:ada': '1', 'lamp:bo': '2' });
  expect(await stores.redis.zrange(keys.deadlines, '0', '-1')).toEqual([open.orderNo]);
  expect(await stores.reservations.release(cancelled.orderNo)).toBe('absent');
  expect(await stores.reservations.confirm(unknown.orderNo)).toBe('absent');
  await expectStock(stores, saleId, { sku: 'lamp', available: 7, held: 1, sold: 2 });
  // The one that has ended in MySQL does not come back.
  expect(await listWaiting(stores.redis, { saleId, shard: 0 })).toEqual([unknown.orderNo]);
  // Void hashes have an end, so that they do not stay for ever.
  for (const { orderNo } of [cancelled, unknown])
    expect(await stores.redis.pttl(orderKeys(orderNo).order)).toBeGreaterThan(0);
  expect(await stores.redis.pttl(orderKeys(open.orderNo).order)).toBe(-1);
  expect(await stores.redis.exists(keys.void)).toBe(0);
});

test('old data of a restored file show no order as it was before its end', async () => {
  const { saleId, paid, cancelled } = await openSale();
  const ended = [paid, cancelled];
  const states = await Promise.all(
    ended.map(async ({ orderNo }) => (await stores.orders.read(orderNo))?.state),
  );
  // Of the file: one whose hold had ended as well, and one that was open.
  await stores.redis.hset(orderKeys(paid.orderNo).order, 'version', '1', 'status', 'awaiting_payment');
  await stores.redis.hset(orderKeys(cancelled.orderNo).order, 'hold', 'held', 'version', '1');

  await rebuild(saleId, 'replaced');

  const shown = await Promise.all(
    ended.map(async ({ orderNo }) => (await stores.reservations.readOrder(orderNo))?.state),
  );
  expect(shown).toEqual(states);
  expect(shown.map((state) => state?.status)).toEqual(['paid', 'cancelled']);
});

test('a projection that is newer than the snapshot is not turned back', async () => {
  const { saleId, open } = await openSale();
  const closing = {
    status: 'awaiting_payment',
    version: 5,
    payment: 'none',
    reason: 'shopper_request',
  } as const;
  await stores.reservations.project(open.orderNo, closing);
  await rebuild(saleId, 'unfinished');
  expect((await stores.reservations.readOrder(open.orderNo))?.state).toEqual(closing);
});

test('an order that was not stored before is reserved again, and refused once its units are sold', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const [first, second] = [
    await acceptOrder(stores, saleId, { items: [{ sku: 'mug', quantity: 3 }] }),
    await acceptOrder(stores, saleId, { userId: 'bo', items: [{ sku: 'mug', quantity: 2 }] }),
  ];
  await lose(saleId);
  await rebuild(saleId);
  expect(await stores.orders.storeOrder(first, 'due')).toEqual({ kind: 'refused', reason: 'lost_hold' });
  expect(await stores.reservations.reserveAgain(first)).toEqual({ kind: 'reserved', epoch: 2 });
  expect(await stores.reservations.reserveAgain(first)).toEqual({ kind: 'known', hold: 'held', epoch: 2 });
  expect(await stores.orders.storeOrder({ ...first, holdEpoch: 2 }, 'due')).toMatchObject({ kind: 'stored' });
  await acceptOrder(stores, saleId, { userId: 'cy', items: [{ sku: 'mug', quantity: 2 }] });
  expect(await stores.reservations.reserveAgain(second)).toEqual({ kind: 'sold-out', sku: 'mug' });
});

test('what the shop added to an order is there again, and its ticket is still spent, also of a cancelled one', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const ticket = (id: string, endsAtMs = Date.now() + 60_000) => {
    const charges = [{ code: 'shipping', name: 'Shipping', amount: 500 }];
    return { id, endsAtMs, isSingleUse: true, charges };
  };
  const shop = { reference: 'R-1', metadata: { channel: 'app' } };
  const open = await store(await acceptOrder(stores, saleId, { ticket: ticket('of-open'), ...shop }));
  const cancelled = await store(
    await acceptOrder(stores, saleId, { userId: 'bo', ticket: ticket('of-cancelled') }),
  );
  await stores.orders.cancel(cancelled.orderNo, 'operator_request', { force: true });
  await stores.reservations.release(cancelled.orderNo);
  await lose(saleId);

  await rebuild(saleId);

  expect((await stores.reservations.readOrder(open.orderNo))?.order).toEqual({ ...open, holdEpoch: 2 });
  for (const [id, { orderNo }] of [
    ['of-open', open],
    ['of-cancelled', cancelled],
  ] as const) {
    const again = buildReserveRequest({ saleId, userId: 'cy', ticket: ticket(id) });
    expect(await stores.reservations.reserve(again)).toEqual({ kind: 'ticket-used', orderNo });
  }
  const { orderNo, userId, idempotencyKey } = open;
  const fingerprint = fingerprintOf(open);
  const repeat = buildReserveRequest({ saleId, userId, idempotencyKey, fingerprint, ...shop });
  expect(await stores.reservations.reserve(repeat)).toEqual({ kind: 'repeated', orderNo });
});

test('a ticket that has ended meanwhile is not written again', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const spent = { id: 'ended', endsAtMs: Date.now() - 1 };
  await stores.orders.storeOrder(buildOrder({ saleId, ticket: spent }), 'due');
  await lose(saleId);

  await rebuild(saleId);

  expect(await stores.redis.exists(saleKeys({ saleId, shard: 0 }).ticket(spent.id))).toBe(0);
});

test('an order that was lost before it was stored spends its ticket again when it is reserved again', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const endsAtMs = Date.now() + 60_000;
  const ticket = { id: 'of-waiting', endsAtMs, isSingleUse: true, charges: [] };
  const waiting = await acceptOrder(stores, saleId, { ticket });
  await lose(saleId);
  await rebuild(saleId);

  await storeWithHold(stores, waiting, 'due');

  const again = buildReserveRequest({ saleId, ticket });
  const { orderNo } = waiting;
  expect(await stores.reservations.reserve(again)).toEqual({ kind: 'ticket-used', orderNo });
});

test('orders that were told as lost stay so after the next rebuild, and those of one that died do not', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const first = await acceptOrder(stores, saleId);
  await lose(saleId);
  const readSaleSnapshot = () => Promise.reject(new Error('died here'));
  await expect(
    rebuildSale({ ...stores, readSaleSnapshot, log: silent }, saleId, { cause: 'lost' }),
  ).rejects.toThrow('died here');
  await waitFor('the lock', async () => (await rebuild(saleId)).kind === 'rebuilt');
  const lostHold = { knownForMs: 0 };
  expect(await stores.reservations.reserveAgain(first, lostHold)).toEqual({ kind: 'reserved', epoch: 3 });

  const second = await acceptOrder(stores, saleId, { userId: 'bo' });
  await lose(saleId);
  // As much time has passed as it takes until orders are told as lost.
  await stores.pool.query('UPDATE sales SET rebuilt_at = rebuilt_at - INTERVAL 1 MINUTE');
  await rebuild(saleId);
  expect(await stores.reservations.reserveAgain(first, lostHold)).toEqual({ kind: 'too-late' });
  expect(await stores.reservations.reserveAgain(second, lostHold)).toEqual({ kind: 'reserved', epoch: 4 });
});

describe('a rebuild that is not alone', () => {
  test('one that was overtaken writes nothing any more', async () => {
    const { saleId, open } = await openSale();
    const { saleRebuild } = stores;
    await saleRebuild.begin(saleId, 2);
    await saleRebuild.begin(saleId, 3);
    const before = await snapshot(stores.redis, saleId);
    const state = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null } as const;
    const rebuilt = {
      sale: buildSale({ saleId }),
      changeNo: 2,
      changeId: '',
      stock: [],
      undecidedFrom: 1,
    };
    for (const write of [
      () => saleRebuild.begin(saleId, 2),
      () => saleRebuild.writeOrders(saleId, 2, [{ order: open, state }]),
      () => saleRebuild.writeRequests(saleId, 2, [open]),
      () => saleRebuild.writeLimits(saleId, 2, [{ sku: 'lamp', userId: 'ada', units: 9 }]),
      () => saleRebuild.writeReturns(saleId, 2, [{ orderNo: open.orderNo, what: 'stock', part: '' }]),
      () => saleRebuild.end(saleId, 2, rebuilt),
    ]) {
      await expect(write()).rejects.toThrow(SupersededError);
      expect(await snapshot(stores.redis, saleId)).toEqual(before);
    }
    // MySQL's epochs catch up with those of Redis.
    await expect(rebuild(saleId, 'unfinished')).rejects.toThrow(SupersededError);
    await rebuild(saleId, 'unfinished');
    await expectStock(stores, saleId, { sku: 'lamp', available: 7, held: 1, sold: 2 });
  });

  test('while it is under way no hold begins or ends, and afterwards each ends as it should', async () => {
    const { saleId, open } = await openSale();
    await stores.saleRebuild.begin(saleId, 2);
    const { reservations } = stores;
    expect(await reservations.reserve(buildReserveRequest({ saleId }))).toEqual({ kind: 'paused' });
    expect(await reservations.release(open.orderNo)).toBe('sale-absent');
    expect(await reservations.confirm(open.orderNo)).toBe('sale-absent');
    expect(await reservations.reserveAgain(open)).toEqual({ kind: 'sale-absent' });
    expect(await reservations.giveBack({ ...open, part: '', limit: true, stock: true })).toEqual({
      kind: 'sale-absent',
    });
    await rebuild(saleId, 'unfinished');
    expect(await reservations.release(open.orderNo)).toBe('released');
  });

  test('two at once make the sale once', async () => {
    const { saleId } = await openSale();
    const outcomes = await Promise.all([rebuild(saleId), rebuild(saleId)]);
    expect(outcomes.map(({ kind }) => kind).toSorted()).toEqual(['busy', 'rebuilt']);
  });

  test('one that dies after its epoch is done again, with the next', async () => {
    const { saleId } = await openSale();
    const readSaleSnapshot = () => Promise.reject(new Error('died here'));
    const dying = rebuildSale({ ...stores, readSaleSnapshot, log: silent }, saleId, {
      cause: 'lost',
    });
    await expect(dying).rejects.toThrow('died here');
    expect(await stores.saleEpochs.listWatched()).toContainEqual({ saleId, epoch: 2, isRebuilding: true });
    expect(await stores.saleStock.checkLife(saleId)).toMatchObject({ kind: 'suspended' });
    expect(await rebuild(saleId, 'unfinished')).toMatchObject({ epoch: 3 });
    expect(await stores.saleEpochs.listWatched()).toContainEqual({ saleId, epoch: 3, isRebuilding: false });
    await expectStock(stores, saleId, { sku: 'lamp', available: 7, held: 1, sold: 2 });
  });
});

test('Redis may take longer than the server leaves a connection idle, in the transaction and after it', async () => {
  const { saleId } = await openSale();
  await lose(saleId);
  const pool = createMysqlPool(stores.config.MYSQL_URL);
  onTestFinished(() => pool.end());
  const { saleEpochs } = mysqlStores(pool);
  const impatient: typeof saleEpochs = {
    ...saleEpochs,
    withLock: (id, work) =>
      saleEpochs.withLock(
        id,
        async (lock) => {
          await lock.run((connection) =>
            connection.query('SET SESSION wait_timeout = 1 /*M! , idle_transaction_timeout = 1 */'),
          );
          return work(lock);
        },
        100,
      ),
  };
  const passSeconds = () => stores.pool.query('SELECT SLEEP(3)');
  const slow: typeof stores.saleRebuild = {
    ...stores.saleRebuild,
    async writeLimits(...call) {
      await passSeconds();
      return stores.saleRebuild.writeLimits(...call);
    },
    async expireVoid(...call) {
      await passSeconds();
      return stores.saleRebuild.expireVoid(...call);
    },
  };

  const outcome = await rebuildSale(
    { ...stores, saleEpochs: impatient, saleRebuild: slow, log: silent },
    saleId,
    {
      cause: 'lost',
    },
  );

  expect(outcome).toMatchObject({ kind: 'rebuilt', epoch: 2, openOrders: 1 });
  expect(await stores.saleEpochs.listWatched()).toContainEqual({ saleId, epoch: 2, isRebuilding: false });
});

test('a rebuild is recorded with its cause, its epochs and the stock before and after', async () => {
  const { saleId } = await openSale();
  await rebuildSale({ ...stores, log: silent }, saleId, {
    cause: 'unfinished',
    reason: 'counts looked odd',
  });
  const row = await selectOne(
    stores.pool,
    'SELECT actor, action, reason, detail FROM audit_log WHERE subject = ?',
    [`sale ${saleId}`],
  );
  expect(row).toMatchObject({ actor: 'holdfast', action: 'sale_rebuilt', reason: 'counts looked odd' });
  expect(JSON.parse(String(row['detail']))).toMatchObject({
    cause: 'unfinished',
    formerEpoch: 1,
    epoch: 2,
    openOrders: 1,
    before: [{ sku: 'lamp', available: 7, held: 1, sold: 2 }, {}],
    after: [{ sku: 'lamp', available: 7, held: 1, sold: 2 }, {}],
  });
});

test('a sale that was never in Redis is not made', async () => {
  const { saleId } = buildSale();
  expect(await rebuild(saleId)).toEqual({ kind: 'not-warm' });
});

/** The steps of a rebuild in the stores, by their names. */
const STEPS = [
  'suspend',
  'begin',
  'writeOrders',
  'writeRequests',
  'writeReturns',
  'writeLimits',
  'end',
  'expireVoid',
] as const;

/** The stores of a process that dies at this step: before it is done, or after it. */
function dyingAt(step: (typeof STEPS)[number], when: 'before' | 'after'): TestStores {
  const real: (...args: never[]) => Promise<unknown> = stores.saleRebuild[step];
  const die = async (...args: unknown[]): Promise<never> => {
    if (when === 'after') await Reflect.apply(real, undefined, args);
    throw new Error('died here');
  };
  return { ...stores, saleRebuild: { ...stores.saleRebuild, [step]: die } };
}

test.each(STEPS.flatMap((step) => [[step, 'before'] as const, [step, 'after'] as const]))(
  'a process that dies at %s, %s it is done, leaves a sale that the next one makes again',
  async (step, when) => {
    const { saleId, open } = await openSale();
    const dying = { ...dyingAt(step, when), log: silent };
    await expect(rebuildSale(dying, saleId, { cause: 'unfinished' })).rejects.toThrow('died here');
    expect(await stores.saleEpochs.listWatched()).toContainEqual(
      expect.objectContaining({ saleId, isRebuilding: true }),
    );

    // The server drops the lock of the dead one a moment after its connection.
    await waitFor('the lock', async () => (await rebuild(saleId, 'unfinished')).kind === 'rebuilt');

    await expectStock(stores, saleId, { sku: 'lamp', available: 7, held: 1, sold: 2 });
    const keys = saleKeys({ saleId, shard: 0 });
    expect(await stores.redis.hgetall(keys.limits)).toEqual({ 'lamp:ada': '1', 'lamp:bo': '2' });
    expect(await stores.redis.zrange(keys.deadlines, '0', '-1')).toEqual([open.orderNo]);
    expect(await stores.redis.exists(keys.void)).toBe(0);
    expect((await stores.saleStock.checkLife(saleId)).kind).toBe('well');
    expect(await stores.saleEpochs.listWatched()).toContainEqual(
      expect.objectContaining({ saleId, isRebuilding: false }),
    );
  },
);
