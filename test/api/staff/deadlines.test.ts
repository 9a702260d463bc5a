/** Staff extend a deadline over HTTP: what is answered, refused and shown, and the next payment page. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import type { SessionReply } from '../../../src/api/calls/orders.ts';
import { orderReply } from '../../../src/api/http/replies.ts';
import type { Order } from '../../../src/orders/content.ts';
import { rebuildSale } from '../../../src/reconcile/rebuild-sale.ts';
import { orderKeys, saleKeys } from '../../../src/redis/keys.ts';
import { select } from '../../support/rows.ts';
import { openShop } from '../../support/shop.ts';
import { pressPay, problemOf, refusalOf, sessionOf, type Reply } from '../../support/shopper.ts';
import { silent } from '../../support/stores.ts';
import { openStaffWorld, type StaffWorld } from './staff-world.ts';

let world: StaffWorld;
beforeAll(async () => {
  world = await openStaffWorld();
});

const HOUR_MS = 60 * 60_000;
const inHours = (hours: number): string => new Date(Date.now() + hours * HOUR_MS).toISOString();
const extend = (orderNo: string, until: unknown, more: object = {}): Promise<Reply> =>
  world.post(`orders/${orderNo}/deadline`, { until, ...more });
const shopperOf = ({ userId }: Order) => world.api.shopper(userId);

async function shown(order: Order) {
  return orderReply.parse((await (await shopperOf(order)).getOrder(order.orderNo)).body);
}

const sessionsOf = ({ orderNo }: Order) =>
  select(
    world.stores.pool,
    'SELECT status, expires_at FROM payment_sessions WHERE order_no = ? ORDER BY session_id',
    [orderNo],
  );

test('the shopper is shown the later deadline, and a repeat answers the same', async () => {
  const order = await world.stored();
  const until = inHours(2);
  const reply = await extend(order.orderNo, until, { reason: 'the bank was down' });
  expect([reply.status, reply.body]).toMatchObject([200, { deadline: until, version: 2 }]);
  expect(await shown(order)).toMatchObject({ deadline: until, version: 2, status: 'awaiting_payment' });
  const { deadlines } = orderKeys(order.orderNo);
  expect(await world.stores.redis.zscore(deadlines, order.orderNo)).toBe(String(Date.parse(until)));
  expect((await extend(order.orderNo, until)).body).toEqual(reply.body);
});

test('a time with an offset is understood', async () => {
  const order = await world.stored();
  const until = inHours(3);
  const [day = '', clock = ''] = new Date(Date.parse(until) + 2 * HOUR_MS).toISOString().split('T');
  const reply = await extend(order.orderNo, `${day}T${clock.replace('Z', '+02:00')}`);
  expect(reply.body).toMatchObject({ deadline: until });
});

test('an order that waits to be stored is stored first', async () => {
  const order = await world.queued();
  const until = inHours(2);
  expect((await extend(order.orderNo, until)).body).toMatchObject({ deadline: until, version: 2 });
  expect(await shown(order)).toMatchObject({ deadline: until, status: 'awaiting_payment' });
});

test('an order whose sale was rebuilt before it was stored is stored with a new hold, and extended', async () => {
  const order = await world.rebuilt();
  const until = inHours(2);
  expect((await extend(order.orderNo, until)).body).toMatchObject({ deadline: until, version: 2 });
});

test('an order that is shown as paid and that MySQL has lost is refused as paid', async () => {
  const order = await world.queued();
  const state = { status: 'paid', version: 2, payment: 'applied', reason: null } as const;
  await world.stores.reservations.project(order.orderNo, state);
  const before = await world.rowsOf(order.saleId);

  const reply = await extend(order.orderNo, inHours(2));

  expect(refusalOf(reply)).toBe('409 not_extendable');
  expect(problemOf(reply)).toMatchObject({ order: { status: 'paid' } });
  expect(await world.rowsOf(order.saleId)).toEqual(before);
});

test('each refusal has its code, and what there is to say beside it', async () => {
  const [order, { order: paid }] = [await world.stored(), await world.paid()];
  const late = await extend(order.orderNo, inHours(25));
  expect(refusalOf(late)).toBe('409 deadline_out_of_range');
  expect(problemOf(late)).toMatchObject({
    after: new Date(order.reservedAtMs + order.paymentWindowMs).toISOString(),
    until: new Date(order.reservedAtMs + 24 * HOUR_MS).toISOString(),
  });
  const over = await extend(paid.orderNo, inHours(2));
  expect(refusalOf(over)).toBe('409 not_extendable');
  expect(problemOf(over)).toMatchObject({ order: { orderNo: paid.orderNo, status: 'paid' } });
  expect(refusalOf(await extend('nothing', inHours(2)))).toBe('404 order_not_found');
  for (const until of [undefined, '', 'tomorrow', 5, '2026-01-01'])
    expect(refusalOf(await extend(order.orderNo, until))).toBe('400 invalid_request');
  expect(refusalOf(await extend(order.orderNo, inHours(2), { for: 60 }))).toBe('400 invalid_request');
  expect(refusalOf(await extend(order.orderNo, inHours(2), { reason: '' }))).toBe('400 invalid_request');
});

test('the open page closes at the old deadline: the next call voids it, and opens one with the new', async () => {
  const order = await world.stored();
  const shopper = await shopperOf(order);
  const first = sessionOf(await shopper.pay(order.orderNo));
  const until = inHours(2);
  await extend(order.orderNo, until);

  const second = sessionOf(await shopper.pay(order.orderNo));
  expect(second).toMatchObject({ expiresAt: until });
  expect(second.url).not.toBe(first.url);
  expect(await sessionsOf(order)).toMatchObject([
    { status: 'voided' },
    { status: 'open', expires_at: new Date(until) },
  ]);
  expect(sessionOf(await shopper.pay(order.orderNo))).toEqual(second);
  // Nobody pays on the old one any more.
  expect((await pressPay(first.url)).status).toBeGreaterThanOrEqual(400);
  await pressPay(second.url);
});

test('of two calls that find the page outdated, both answer the one new page, and it takes the payment', async () => {
  const order = await world.stored();
  const shopper = await shopperOf(order);
  await shopper.pay(order.orderNo);
  await extend(order.orderNo, inHours(2));
  const { paymentSessions } = world.stores;
  let first: SessionReply | undefined;
  const begin: typeof paymentSessions.begin = async (...args) => {
    const outcome = await paymentSessions.begin(...args);
    first ??= sessionOf(await shopper.pay(order.orderNo));
    return outcome;
  };
  const { provider } = world.api;
  const app = await world.api.withParts({ provider, paymentSessions: { ...paymentSessions, begin } });

  const second = sessionOf(await (await app.shopper(order.userId)).pay(order.orderNo));

  expect(second).toEqual(first);
  expect(await sessionsOf(order)).toMatchObject([{ status: 'voided' }, { status: 'open' }]);
  expect((await pressPay(second.url)).status).toBe(200);
});

test('a call whose page was voided while it was opened answers the page that is open', async () => {
  const order = await world.stored();
  const { provider } = world.api;
  let later: SessionReply | undefined;
  const openSession: typeof provider.openSession = async (session) => {
    const opened = await provider.openSession(session);
    if (!later) {
      await extend(order.orderNo, inHours(2));
      later = sessionOf(await (await shopperOf(order)).pay(order.orderNo));
    }
    return opened;
  };
  const app = await world.api.withParts({ provider: { ...provider, openSession } });

  expect(sessionOf(await (await app.shopper(order.userId)).pay(order.orderNo))).toEqual(later);
});

test('a page that was paid meanwhile pays for the order, and no other opens', async () => {
  const order = await world.stored();
  const shopper = await shopperOf(order);
  const { url } = sessionOf(await shopper.pay(order.orderNo));
  await world.api.providerConsole.setMischief({ drop: 1 });
  await extend(order.orderNo, inHours(2));
  await pressPay(url);

  expect(refusalOf(await shopper.pay(order.orderNo))).toBe('409 already_paid');
  expect(await sessionsOf(order)).toMatchObject([{ status: 'paid' }]);
  expect((await world.stores.orders.read(order.orderNo))?.state).toMatchObject({
    status: 'paid',
    version: 3,
  });
  expect(refusalOf(await extend(order.orderNo, inHours(3)))).toBe('409 not_extendable');
});

test('a rebuild of the sale keeps the later deadline', async () => {
  const order = await world.stored();
  const until = inHours(2);
  await extend(order.orderNo, until);
  const { stores } = world;
  const cause = { cause: 'unfinished' } as const;
  // A rebuild waits for what is in the outbox.
  await stores.redis.xtrim(saleKeys({ saleId: order.saleId, shard: 0 }).outbox, 'MAXLEN', 0);
  await rebuildSale({ ...stores, log: silent }, order.saleId, cause);

  expect(await shown(order)).toMatchObject({ deadline: until, version: 2 });
  const { deadlines } = orderKeys(order.orderNo);
  expect(await stores.redis.zscore(deadlines, order.orderNo)).toBe(String(Date.parse(until)));
});

test('where Redis is away the deadline is extended, and shown once a repeat or the reconciliation brings it', async () => {
  const order = await world.stored();
  const until = inHours(2);
  const { reservations } = world.stores;
  const project = () => Promise.reject(new Error('away'));
  const app = await world.api.withParts({ reservations: { ...reservations, project } });
  onTestFinished(() => app.close());
  const { asStaff } = openShop({ ...app, stores: world.stores });
  expect((await asStaff('POST', `orders/${order.orderNo}/deadline`, { until })).status).toBe(200);
  expect((await reservations.readOrder(order.orderNo))?.state.version).toBe(1);
  await extend(order.orderNo, until);
  expect(await shown(order)).toMatchObject({ deadline: until });
});
