/** Keys of a sale that hold something else than they should: a hand or a fault put it there. */

import { beforeAll, expect, test } from 'vitest';
import { storeWithHold } from '../../src/orders/both-stores.ts';
import { fingerprintOf, type Order } from '../../src/orders/content.ts';
import { rebuildSale, type RebuildDeps } from '../../src/reconcile/rebuild-sale.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { listWaiting } from '../../src/redis/outbox.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { pay } from '../support/payment-notices.ts';
import { select } from '../support/rows.ts';
import { expectStock } from '../support/stock.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const TICKET = { id: 'spent', endsAtMs: Date.now() + 3_600_000, isSingleUse: true, charges: [] };

const keysOf = (saleId: string) => saleKeys({ saleId, shard: 0 });

const rebuild = (saleId: string, parts: Partial<RebuildDeps> = {}) =>
  rebuildSale({ ...stores, log: silent, ...parts }, saleId, { cause: 'unfinished' });

/** The server drops the lock of one that died a moment after its connection. */
const rebuildAgain = (saleId: string) =>
  waitFor('the lock', async () => (await rebuild(saleId)).kind === 'rebuilt');

/** Puts a key of another type there. */
async function damage(key: string): Promise<void> {
  const type = await stores.redis.type(key);
  await stores.redis.del(key);
  await (type === 'string' ? stores.redis.rpush(key, 'damaged') : stores.redis.set(key, 'damaged'));
}

const readParked = (saleId: string) =>
  select(stores.pool, 'SELECT kind, reference, cause FROM parked WHERE reference LIKE ?', [`${saleId}%`]);

async function store(order: Order): Promise<Order> {
  await stores.orders.storeOrder(order, 'due');
  await stores.redis.del(keysOf(order.saleId).outbox);
  return order;
}

/** An open order, a paid one and a cancelled one, each settled in Redis. */
async function openStage() {
  const { saleId } = await stores.openSale(buildSale());
  const open = await store(await acceptOrder(stores, saleId, { userId: 'ada', ticket: TICKET }));
  const paid = await store(await acceptOrder(stores, saleId, { userId: 'bo' }));
  await pay(stores, paid);
  await stores.reservations.confirm(paid.orderNo);
  const cancelled = await store(await acceptOrder(stores, saleId, { userId: 'cy' }));
  await stores.orders.cancel(cancelled.orderNo, 'operator_request', { force: true });
  await stores.reservations.release(cancelled.orderNo);
  return { saleId, open, paid, cancelled };
}
type Stage = Awaited<ReturnType<typeof openStage>>;

const everyKey = ({ saleId, open, paid, cancelled }: Stage) => {
  const { idem, ticket, order, refused, ...keys } = keysOf(saleId);
  return {
    ...keys,
    idem: idem(open.userId, open.idempotencyKey),
    ticket: ticket(TICKET.id),
    refused: refused('sums', 0),
    order: order(open.orderNo),
    'order that is paid': order(paid.orderNo),
    'order that is cancelled': order(cancelled.orderNo),
  };
};
type KeyName = keyof ReturnType<typeof everyKey>;

/** Each kind of key that a sale has. The compiler finds one that is missing. */
const KEY_NAMES = Object.values({
  sale: 'sale',
  stock: 'stock',
  limits: 'limits',
  outbox: 'outbox',
  deadlines: 'deadlines',
  restored: 'restored',
  returns: 'returns',
  void: 'void',
  damaged: 'damaged',
  moves: 'moves',
  open: 'open',
  unpaid: 'unpaid',
  free: 'free',
  idem: 'idem',
  ticket: 'ticket',
  refused: 'refused',
  order: 'order',
  'order that is paid': 'order that is paid',
  'order that is cancelled': 'order that is cancelled',
} satisfies { [Name in KeyName]: Name });

/** The sale sells on, and every order of it can be read, ended and given back. */
async function expectWell({ saleId, open, paid, cancelled }: Stage): Promise<void> {
  const { reservations } = stores;
  const keys = keysOf(saleId);
  expect(await stores.saleStock.checkLife(saleId)).toEqual({ kind: 'well', epoch: 2 });
  await expectStock(stores, saleId, { sku: 'lamp', available: 8, held: 1, sold: 1 });
  expect(await stores.redis.hgetall(keys.limits)).toEqual({ 'lamp:ada': '1', 'lamp:bo': '1' });
  expect(await stores.redis.zrange(keys.deadlines, '0', '-1')).toEqual([open.orderNo]);
  for (const { orderNo } of [open, paid, cancelled]) await reservations.lookUp(orderNo);

  const { orderNo, userId, idempotencyKey } = open;
  const repeat = buildReserveRequest({ saleId, userId, idempotencyKey, fingerprint: fingerprintOf(open) });
  expect(await reservations.reserve(repeat)).toEqual({ kind: 'repeated', orderNo });
  const reused = buildReserveRequest({ saleId, userId: 'di', ticket: TICKET });
  expect(await reservations.reserve(reused)).toEqual({ kind: 'ticket-used', orderNo });
  await acceptOrder(stores, saleId, { userId: 'eve' });
  expect(await reservations.release(cancelled.orderNo)).toBe('absent');
  expect(await reservations.giveBack({ ...paid, part: '', limit: true, stock: false })).toEqual({
    kind: 'returned',
  });
  await stores.orders.cancel(orderNo, 'operator_request', { force: true });
  expect(await reservations.release(orderNo)).toBe('released');
  expect(await readParked(saleId)).toEqual([]);
}

test.each(KEY_NAMES)(
  'a sale whose key `%s` is of the wrong type is made again, and nothing of it is lost',
  async (name) => {
    const stage = await openStage();
    await damage(everyKey(stage)[name]);

    expect(await rebuild(stage.saleId)).toMatchObject({ kind: 'rebuilt', epoch: 2 });

    await expectWell(stage);
  },
);

test.each(['open', 'paid', 'cancelled'] as const)(
  'a sale with an order, %s, whose version is no number is made again, and nothing of it is lost',
  async (which) => {
    const stage = await openStage();
    const { orderNo } = stage[which];
    await stores.redis.hset(keysOf(stage.saleId).order(orderNo), 'version', 'x');

    expect(await rebuild(stage.saleId)).toMatchObject({ kind: 'rebuilt', epoch: 2 });

    expect((await stores.reservations.readOrder(orderNo))?.state).toEqual(
      (await stores.orders.read(orderNo))?.state,
    );
    await expectWell(stage);
  },
);

test('a sale whose keys are all of the wrong type is made again, and the lost outbox is shown', async () => {
  const stage = await openStage();
  for (const key of Object.values(everyKey(stage))) await damage(key);

  expect(await rebuild(stage.saleId)).toMatchObject({ kind: 'rebuilt', epoch: 2, replaced: 5 });

  const { saleId } = stage;
  expect(await readParked(saleId)).toEqual([
    { kind: 'outbox_entry', reference: `${saleId}.0/outbox`, cause: 'outbox_entry_unreadable' },
  ]);
  await stores.pool.query('DELETE FROM parked');
  await expectWell(stage);
});

test('orders that waited in a damaged outbox wait in the new one, also after a process that died', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const [stored, ...waiting] = [
    await store(await acceptOrder(stores, saleId)),
    await acceptOrder(stores, saleId, { userId: 'bo' }),
    await acceptOrder(stores, saleId, { userId: 'cy' }),
  ];
  await damage(keysOf(saleId).outbox);
  const readSaleSnapshot = () => Promise.reject(new Error('died here'));
  await expect(rebuild(saleId, { readSaleSnapshot })).rejects.toThrow('died here');

  await rebuildAgain(saleId);

  const found = await listWaiting(stores.redis, { saleId, shard: 0 });
  expect(found.toSorted()).toEqual(waiting.map(({ orderNo }) => orderNo).toSorted());
  for (const order of waiting)
    expect(await storeWithHold(stores, order, 'due')).toMatchObject({ kind: 'stored' });
  await expectStock(stores, saleId, { sku: 'lamp', available: 7, held: 3, sold: 0 });
  expect(found).not.toContain(stored.orderNo);
  expect(await readParked(saleId)).toEqual([]);
});

test.each(['damaged', '-', '99999999999999999999-1', ''])(
  'an order that waited in a damaged outbox by the entry `%s` waits in the new one',
  async (entry) => {
    const { saleId } = await stores.openSale(buildSale());
    const order = await acceptOrder(stores, saleId);
    const keys = keysOf(saleId);
    await damage(keys.outbox);
    await stores.redis.hset(keys.order(order.orderNo), 'entry', entry);

    expect(await rebuild(saleId)).toMatchObject({ kind: 'rebuilt', epoch: 2 });

    expect(await listWaiting(stores.redis, { saleId, shard: 0 })).toEqual([order.orderNo]);
    expect(await storeWithHold(stores, order, 'due')).toMatchObject({ kind: 'stored' });
  },
);

test('a damaged order that MySQL does not have is shown to an operator, also after a process that died', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const { orderNo } = await acceptOrder(stores, saleId);
  const keys = keysOf(saleId);
  await stores.redis.del(keys.outbox);
  await damage(keys.order(orderNo));
  const repairs = { ...stores.repairs, parkOrder: () => Promise.reject(new Error('died here')) };
  await expect(rebuild(saleId, { repairs })).rejects.toThrow('died here');
  expect(await readParked(saleId)).toEqual([]);

  for (let i = 0; i < 2; i += 1) {
    await rebuildAgain(saleId);
    expect(await readParked(saleId)).toEqual([{ kind: 'order', reference: orderNo, cause: 'order_damaged' }]);
  }

  expect(await stores.redis.exists(keys.order(orderNo), keys.damaged)).toBe(0);
  await expectStock(stores, saleId, { sku: 'lamp', available: 10, held: 0, sold: 0 });
});

test('an order that was lost before it was stored is reserved again over a damaged request and ticket', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const order = await acceptOrder(stores, saleId, { ticket: TICKET });
  const { idem, ticket, outbox } = keysOf(saleId);
  await stores.redis.del(outbox);
  await damage(idem(order.userId, order.idempotencyKey));
  await damage(ticket(TICKET.id));
  await rebuild(saleId);

  expect(await storeWithHold(stores, order, 'due')).toMatchObject({ kind: 'stored' });

  const { orderNo, userId, idempotencyKey } = order;
  const repeat = buildReserveRequest({ saleId, userId, idempotencyKey, fingerprint: fingerprintOf(order) });
  expect(await stores.reservations.reserve(repeat)).toEqual({ kind: 'repeated', orderNo });
  const reused = buildReserveRequest({ saleId, userId: 'di', ticket: TICKET });
  expect(await stores.reservations.reserve(reused)).toEqual({ kind: 'ticket-used', orderNo });
});
