/** Orders that no workflow has begun end in MySQL, then in Redis; their payment pages are closed first. */

import { beforeAll, expect, test } from 'vitest';
import type { ActivityDeps } from '../../src/activities/index.ts';
import { modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { ProviderBusyError, type PaymentProvider } from '../../src/providers/provider.ts';
import { rebuildSale } from '../../src/reconcile/rebuild-sale.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import type { Stores } from '../../src/stores/open.ts';
import { closeOverdue, createCloser, createEnder, finishMissed } from '../../src/workers/ender.ts';
import { noProvider } from '../activities/stage.ts';
import { connect, pay as payAt, withWorld } from '../sandbox/sandbox-world.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { ageClaim, ageDeadline } from '../support/ageing.ts';
import { buildSale } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import { signer } from '../support/signer.ts';
import { expectStock } from '../support/stock.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const FREE = { sku: 'mug', available: 5, held: 0, sold: 0 };

/** A mug each, stored and shown, and no workflow has begun. */
async function sell(count = 1) {
  const { saleId } = await stores.openSale(buildSale());
  const orders = [];
  for (let i = 0; i < count; i += 1)
    orders.push(await acceptOrder(stores, saleId, { items: [{ sku: 'mug', quantity: 1 }] }));
  for (const [orderNo, outcome] of await stores.orders.storeOrders(orders, 'due'))
    if (outcome.kind === 'stored') await stores.reservations.project(orderNo, outcome.state);
  return { saleId, orders };
}

async function sellOne() {
  const { saleId, orders } = await sell();
  const [order] = orders;
  if (!order) throw new Error('an order');
  return { saleId, order };
}

/** As if the time to pay were over. */
const passDeadlines = () => ageDeadline(stores.pool, 'all');

const ender =
  (parts: Partial<Stores> = {}) =>
  async () => {
    const pass = createEnder({ ...stores, log: silent, ...parts });
    // A page of one sale after the other.
    while ((await pass()) === 0);
  };

/** Another process, when the claims of one that died have run out. */
async function repeatEnded(): Promise<void> {
  await ageClaim(stores.pool, 'end', 'all');
  await finishMissed({ ...stores, log: silent });
}
const closer = (provider: PaymentProvider, parts: Partial<ActivityDeps> = {}) =>
  createCloser({ ...stores, provider, log: silent, ...parts });

async function statesOf({ orderNo }: Pick<Order, 'orderNo'>) {
  return {
    stored: (await stores.orders.read(orderNo))?.state,
    shown: (await stores.reservations.readOrder(orderNo))?.state,
  };
}

async function openSession({ orderNo }: Order, provider: PaymentProvider): Promise<string> {
  const begun = await stores.paymentSessions.begin(provider.name, orderNo, signer.sign);
  if (begun.kind !== 'begun') throw new Error(begun.kind);
  const opened = await provider.openSession(begun.session);
  await stores.paymentSessions.recordOpened(begun.session.sessionId, opened);
  return opened.providerSessionId;
}

const sessionsOf = async ({ orderNo }: Order) =>
  (await select(stores.pool, 'SELECT status FROM payment_sessions WHERE order_no = ?', [orderNo])).map(
    ({ status }) => status,
  );

/** Mugs that Redis holds. */
const readHeld = async (saleId: string) =>
  (await stores.saleStock.read(saleId))?.skus.find(({ sku }) => sku === 'mug')?.held;

const CANCELLED = { status: 'cancelled', version: 3, payment: 'none', reason: 'payment_timeout' };

test('what no workflow has begun ends at its deadline in both stores, and pollers see it', async () => {
  const { saleId, orders } = await sell(3);
  const pass = ender();
  await pass();
  for (const order of orders) expect((await statesOf(order)).stored?.status).toBe('awaiting_payment');
  await passDeadlines();

  await pass();

  for (const order of orders) expect(await statesOf(order)).toEqual({ stored: CANCELLED, shown: CANCELLED });
  await expectStock(stores, saleId, FREE);
  await ageClaim(stores.pool, 'end', 'all');
  expect(await stores.endings.takeEnded(10)).toEqual([]);
});

test('while Redis is away no order ends', async () => {
  const { order } = await sellOne();
  await passDeadlines();
  const saleStock = { ...stores.saleStock, readTimeMs: () => Promise.reject(new Error('no Redis')) };

  await expect(ender({ saleStock })()).rejects.toThrow('no Redis');

  expect((await statesOf(order)).stored?.status).toBe('awaiting_payment');
  await ender()();
  expect((await statesOf(order)).stored?.status).toBe('cancelled');
});

test('what Redis did not take stays due, and the next process brings it', async () => {
  const { saleId, orders } = await sell(2);
  await passDeadlines();
  const [stuck] = orders;
  const release: Stores['reservations']['release'] = (orderNo) =>
    orderNo === stuck?.orderNo
      ? Promise.reject(new Error('no answer'))
      : stores.reservations.release(orderNo);
  await ender({ reservations: { ...stores.reservations, release } })();
  for (const order of orders) expect((await statesOf(order)).stored).toEqual(CANCELLED);
  expect(await readHeld(saleId)).toBe(1);

  await repeatEnded();

  for (const order of orders) expect(await statesOf(order)).toEqual({ stored: CANCELLED, shown: CANCELLED });
  await expectStock(stores, saleId, FREE);
});

test("an order that ends while its sale's data are away stays due until they are back", async () => {
  const { saleId, order } = await sellOne();
  await passDeadlines();
  const { sale } = saleKeys({ saleId, shard: 0 });
  await stores.redis.rename(sale, `${sale}-away`);

  await ender()();
  expect((await statesOf(order)).stored).toEqual(CANCELLED);
  await repeatEnded();

  await stores.redis.rename(`${sale}-away`, sale);
  expect(await readHeld(saleId)).toBe(1);
  await repeatEnded();
  expect((await statesOf(order)).shown).toEqual(CANCELLED);
  await expectStock(stores, saleId, FREE);
});

test("a page of ended orders asks MySQL once whether their sale's data are made again", async () => {
  const { saleId } = await sell(5);
  await passDeadlines();
  const { sale } = saleKeys({ saleId, shard: 0 });
  await stores.redis.rename(sale, `${sale}-away`);
  const asked: string[] = [];
  function isWatched(asking: string): Promise<boolean> {
    asked.push(asking);
    return stores.sales.isWatched(asking);
  }

  await ender({ sales: { ...stores.sales, isWatched } })();

  expect(asked).toEqual([saleId]);
  await stores.redis.rename(`${sale}-away`, sale);
  await repeatEnded();
  await expectStock(stores, saleId, FREE);
});

test("a process that was frozen before it told Redis gives nothing back twice, also after the sale's data were made again", async () => {
  const { saleId, orders } = await sell(3);
  const [ended, again, open] = orders;
  if (!ended || !again || !open) throw new Error('three orders');
  await stores.redis.del(saleKeys({ saleId, shard: 0 }).outbox);
  await passDeadlines();
  await ageDeadline(stores.pool, open.orderNo, -60 * 60);
  // Another process tells Redis meanwhile, and then the data are made again.
  let isFrozen = true;
  const release: Stores['reservations']['release'] = async (orderNo) => {
    if (isFrozen) {
      isFrozen = false;
      await repeatEnded();
      await rebuildSale({ ...stores, log: silent }, saleId, { cause: 'lost' });
    }
    return stores.reservations.release(orderNo);
  };

  await ender({ reservations: { ...stores.reservations, release } })();

  await expectStock(stores, saleId, { sku: 'mug', available: 4, held: 1, sold: 0 });
  for (const order of [ended, again]) expect((await statesOf(order)).stored).toEqual(CANCELLED);
  expect(await select(stores.pool, 'SELECT cause FROM parked WHERE cause = ?', ['hold_lost'])).toEqual([]);
  await repeatEnded();
  await expectStock(stores, saleId, { sku: 'mug', available: 4, held: 1, sold: 0 });
});

test('an order with an open page ends once that is closed at the provider, and no other waits for it', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const provider = connect(sandbox);
    const { saleId, orders } = await sell(2);
    const [paged, plain] = orders;
    if (!paged || !plain) throw new Error('two orders');
    const session = await openSession(paged, provider);
    await passDeadlines();

    await ender()();
    const closing = { status: 'awaiting_payment', version: 2, payment: 'none', reason: 'payment_timeout' };
    expect(await statesOf(paged)).toEqual({ stored: closing, shown: closing });
    expect((await statesOf(plain)).shown).toEqual(CANCELLED);

    await closer(provider)();
    expect(await statesOf(paged)).toEqual({ stored: CANCELLED, shown: CANCELLED });
    expect(await sessionsOf(paged)).toEqual(['voided']);
    expect(await payAt(sandbox, session)).toMatchObject({ status: 409 });
    await expectStock(stores, saleId, FREE);
  }));

test('a page that was paid in the last moment makes a paid order', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const provider = connect(sandbox);
    const { saleId, order } = await sellOne();
    const session = await openSession(order, provider);
    expect(await payAt(sandbox, session)).toMatchObject({ status: 200 });
    await passDeadlines();

    await ender()();
    await closer(provider)();

    const paid = { status: 'paid', version: 3, payment: 'applied', reason: null };
    expect(await statesOf(order)).toEqual({ stored: paid, shown: paid });
    expect(await sessionsOf(order)).toEqual(['paid']);
    await expectStock(stores, saleId, { sku: 'mug', available: 4, held: 0, sold: 1 });
    // No workflow has begun that would have to be told.
    await ageClaim(stores.pool, 'start', 'all');
    expect(await stores.orderClaims.take(10)).toEqual([]);
    await ageClaim(stores.pool, 'end', 'all');
    expect(await closer(provider)()).toBeGreaterThan(0);
  }));

test('while the provider is away an open page keeps its order for a minute, and then it ends anyway', () =>
  withWorld(async ({ startSandbox }) => {
    const provider = connect(await startSandbox());
    const { saleId, orders } = await sell(3);
    for (const order of orders) await openSession(order, provider);
    await passDeadlines();
    await ender()();
    const pass = closer(noProvider);

    await pass();
    for (const order of orders) expect((await statesOf(order)).stored?.status).toBe('awaiting_payment');
    expect(await pass()).toBeGreaterThan(0);

    await ageClaim(stores.pool, 'end', 'all');
    await ageClaim(stores.pool, 'closing', 'all', 61);
    await pass();
    for (const order of orders) {
      expect(await statesOf(order)).toEqual({ stored: CANCELLED, shown: CANCELLED });
      expect(await sessionsOf(order)).toEqual(['open']);
    }
    await expectStock(stores, saleId, FREE);
  }));

test('a provider that is away is asked about one order at a time until it is back', () =>
  withWorld(async ({ startSandbox }) => {
    const provider = connect(await startSandbox());
    const { orders } = await sell(3);
    for (const order of orders) await openSession(order, provider);
    await passDeadlines();
    await ender()();
    let isAway = true;
    let calls = 0;
    const voidSession: PaymentProvider['voidSession'] = (id) => {
      calls += 1;
      return isAway ? Promise.reject(new Error('no answer')) : provider.voidSession(id);
    };
    const pass = closer({ ...provider, voidSession });

    await pass();
    await ageClaim(stores.pool, 'end', 'all');
    await pass();
    expect(calls).toBe(3 + 1);
    isAway = false;
    for (let i = 0; i < 2; i += 1) {
      await ageClaim(stores.pool, 'end', 'all');
      await pass();
    }

    for (const order of orders) {
      expect((await statesOf(order)).stored).toEqual(CANCELLED);
      expect(await sessionsOf(order)).toEqual(['voided']);
    }
  }));

test('an order whose turn at the provider does not come ends within a minute and a half', () =>
  withWorld(async ({ startSandbox }) => {
    const provider = connect(await startSandbox());
    const { saleId, order } = await sellOne();
    await openSession(order, provider);
    await passDeadlines();
    await ender()();
    const pass = () => closeOverdue({ ...stores, provider: noProvider, log: silent });
    await ageClaim(stores.pool, 'closing', 'all', 89);
    await ageClaim(stores.pool, 'end', 'all', 89);

    expect(await pass()).toBeGreaterThan(0);
    expect((await statesOf(order)).stored?.status).toBe('awaiting_payment');

    await ageClaim(stores.pool, 'closing', 'all', 91);
    await ageClaim(stores.pool, 'end', 'all', 91);
    expect(await pass()).toBe(0);
    expect(await statesOf(order)).toEqual({ stored: CANCELLED, shown: CANCELLED });
    expect(await sessionsOf(order)).toEqual(['open']);
    await expectStock(stores, saleId, FREE);
  }));

test('a process that is to stop calls the provider for no further order, and another goes on', () =>
  withWorld(async ({ startSandbox }) => {
    const provider = connect(await startSandbox());
    const { order } = await sellOne();
    await openSession(order, provider);
    await passDeadlines();
    await ender()();
    let calls = 0;
    const voidSession: PaymentProvider['voidSession'] = (id) => {
      calls += 1;
      return provider.voidSession(id);
    };
    const parts = { ...stores, provider: { ...provider, voidSession }, log: silent };

    // It would end untried in a process that goes on, had its provider been away.
    await ageClaim(stores.pool, 'closing', 'all', 61);
    await createCloser(parts, AbortSignal.abort())();
    expect(calls).toBe(0);
    expect((await statesOf(order)).stored?.status).toBe('awaiting_payment');

    await ageClaim(stores.pool, 'end', 'all');
    await createCloser(parts)();
    expect((await statesOf(order)).stored).toEqual(CANCELLED);
  }));

test('a provider that asks for a pause is not taken for one that is away', () =>
  withWorld(async ({ startSandbox }) => {
    const provider = connect(await startSandbox());
    const { orders } = await sell(2);
    for (const order of orders) await openSession(order, provider);
    await passDeadlines();
    await ender()();
    let busy = 1;
    const voidSession: PaymentProvider['voidSession'] = (id) => {
      busy -= 1;
      return busy >= 0 ? Promise.reject(new ProviderBusyError('busy', 1_000)) : provider.voidSession(id);
    };
    const pass = closer({ ...provider, voidSession });
    await pass();
    await ageClaim(stores.pool, 'end', 'all');
    await pass();
    for (const order of orders) expect((await statesOf(order)).stored).toEqual(CANCELLED);
  }));

test('an order that MySQL cannot end is shown to an operator until it can', async () => {
  const { saleId, orders } = await sell(2);
  const [broken, whole] = orders;
  if (!broken || !whole) throw new Error('two orders');
  const rename = (sku: string) =>
    modify(stores.pool, 'UPDATE order_items SET sku = ? WHERE order_no = ?', [sku, broken.orderNo]);
  const parked = () =>
    select(stores.pool, 'SELECT cause FROM parked WHERE reference = ? AND resolved_at IS NULL', [
      broken.orderNo,
    ]);
  await rename('gone');
  await passDeadlines();

  await ender()();
  await closer(noProvider)();
  expect((await statesOf(whole)).shown).toEqual(CANCELLED);
  expect(await parked()).toEqual([{ cause: 'step_failing' }]);

  await rename('mug');
  const [{ parked_id: parkedId } = {}] = await select(
    stores.pool,
    'SELECT parked_id FROM parked WHERE reference = ?',
    [broken.orderNo],
  );
  await stores.parkedWork.retry(Number(parkedId), { actor: 'ops', reason: 'mended' });
  await closer(noProvider)();
  expect(await statesOf(broken)).toEqual({ stored: CANCELLED, shown: CANCELLED });
  expect(await parked()).toEqual([]);
  await expectStock(stores, saleId, FREE);
});
