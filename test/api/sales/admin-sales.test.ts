/** The shop makes, changes, pauses and ends its sales over HTTP. */

import { beforeAll, describe, expect, test } from 'vitest';
import { amountRulesOf } from '../../../src/providers/open.ts';
import { saleKeys } from '../../../src/redis/keys.ts';
import { select, selectOne } from '../../support/rows.ts';
import { problemOf, refusalOf, type Shopper } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { buildDocument, fromNow, LAMP, MUG, openBackOffice, saleOf, type BackOffice } from './back-office.ts';

let api: TestApi;
let shop: BackOffice;
let shopper: Shopper;
beforeAll(async () => {
  api = await openApi();
  shop = await openBackOffice(api.url);
  shopper = await api.shopper();
});

/** A sale that is on: made over HTTP, and put into Redis as a worker does it. */
async function openSale(overrides: object = {}) {
  const document = buildDocument(overrides);
  const saleId = shop.newSaleId();
  await shop.put(saleId, document);
  await api.stores.sales.warmUp(saleId, api.stores.saleStock);
  return { saleId, document };
}

const withTotals = (lamps: number, mugs = 5) => [
  { ...LAMP, total: lamps },
  { ...MUG, total: mugs },
];
const eventsOf = (saleId: string) =>
  select(api.stores.pool, 'SELECT type FROM shop_events WHERE sale_id = ? ORDER BY event_id', [saleId]);
const totalsOf = async (saleId: string) => {
  const inRedis = (await api.stores.saleStock.read(saleId))?.skus.map(({ sku, total }) => [sku, total]);
  const inMysql = (await api.stores.sales.readStock(saleId)).map(({ sku, total }) => [sku, total]);
  return { inRedis, inMysql };
};

describe('a new sale', () => {
  test('is made by PUT, with defaults for what is left out, and shown with its version', async () => {
    const saleId = shop.newSaleId();
    const made = await shop.put(saleId, buildDocument({ reference: 'CAMP 7', metadata: { team: 'blue' } }));

    expect(made.status).toBe(201);
    expect(made.headers.get('etag')).toBe('"1"');
    expect(made.headers.get('location')).toBe(`/v1/admin/sales/${saleId}`);
    expect(saleOf(made)).toMatchObject({
      saleId,
      state: 'open',
      version: 1,
      pending: false,
      draft: false,
      paymentWindowMs: 30 * 60_000,
      refundRestoresLimit: true,
      limitPerUser: null,
      maxUnpaidHolds: null,
      addressPurchasesPerMinute: null,
      ticketRequired: false,
      reference: 'CAMP 7',
      metadata: { team: 'blue' },
      skus: [
        { sku: 'lamp', total: 10, available: 10, held: 0, sold: 0, limitPerUser: 2 },
        { sku: 'mug', limitPerUser: null },
      ],
    });
    expect((await shop.get(saleId)).body).toEqual(made.body);
  });

  test('is sold from after its warm-up, and shows what is held', async () => {
    const { saleId } = await openSale({ limitPerUser: 3, ticketRequired: false });
    await shopper.buy(saleId, 'mug', 2);
    expect(saleOf(await shop.get(saleId)).skus[1]).toMatchObject({
      total: 5,
      available: 3,
      held: 2,
      sold: 0,
    });
    const key = saleKeys({ saleId, shard: 0 }).sale;
    expect(await api.stores.redis.hmget(key, 'limit_per_user', 'ticket')).toEqual(['3', '0']);
  });

  test('sent again, or twice at once, is made once', async () => {
    const [saleId, document] = [shop.newSaleId(), buildDocument()];
    const replies = await Promise.all([shop.put(saleId, document), shop.put(saleId, document)]);
    expect(replies.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 201]);
    const again = await shop.put(saleId, { ...document, draft: false, limitPerUser: null });
    expect([again.status, saleOf(again).version]).toEqual([200, 1]);
    expect(await eventsOf(saleId)).toEqual([]);
  });

  test('is refused with the path of each price that the payment provider would not take', async () => {
    const stripe = await api.withParts({ provider: { ...api.provider, ...amountRulesOf('stripe') } });
    const atStripe = await openBackOffice(stripe.url);
    const reply = await atStripe.put(
      shop.newSaleId(),
      buildDocument({ skus: [LAMP, { ...MUG, unitPrice: 1 }] }),
    );
    await stripe.close();
    expect(refusalOf(reply)).toBe('400 invalid_request');
    expect(problemOf(reply)).toMatchObject({ faults: [{ path: 'skus.1.unitPrice' }] });
  });

  test('that is a draft or not warmed up may change in everything, and back', async () => {
    const saleId = shop.newSaleId();
    expect(saleOf(await shop.put(saleId, buildDocument({ draft: true }))).state).toBe('draft');
    const other = buildDocument({
      currency: 'JPY',
      opensAt: fromNow(2),
      closesAt: fromNow(3),
      skus: [{ ...MUG, unitPrice: 9_000 }],
    });
    const changed = saleOf(await shop.put(saleId, other));
    expect(changed).toMatchObject({
      state: 'scheduled',
      version: 2,
      currency: 'JPY',
      skus: [{ sku: 'mug' }],
    });
    expect(changed.skus).toHaveLength(1);
    expect(saleOf(await shop.put(saleId, buildDocument({ draft: true }))).state).toBe('draft');
    expect(await api.stores.saleStock.read(saleId)).toBeUndefined();
  });
});

describe('conditions', () => {
  test('a change of another version than the caller knows is refused, and names the present one', async () => {
    const { saleId } = await openSale();
    const named = (name: string) => buildDocument({ name });
    expect((await shop.put(saleId, named('A'), { 'if-match': '"1"' })).headers.get('etag')).toBe('"2"');
    for (const tag of ['"1"', 'W/"2"', '"x"', '"1", "7"']) {
      const refused = await shop.put(saleId, named('B'), { 'if-match': tag });
      expect(refusalOf(refused), tag).toBe('412 version_conflict');
      expect(problemOf(refused)).toMatchObject({ version: 2 });
    }
    expect((await shop.put(saleId, named('B'), { 'if-match': '"1", "2"' })).status).toBe(200);
    expect((await shop.put(saleId, named('C'), { 'if-match': '*' })).status).toBe(200);
  });

  test('a change that has been made is answered as done, whatever version its repeat names', async () => {
    const { saleId, document } = await openSale();
    const changed = { ...document, name: 'B' };
    await shop.put(saleId, changed, { 'if-match': '"1"' });
    const again = await shop.put(saleId, changed, { 'if-match': '"1"' });
    expect([again.status, again.headers.get('etag')]).toEqual([200, '"2"']);
  });

  test('If-None-Match: * makes a sale and changes none, and If-Match makes none', async () => {
    const { saleId, document } = await openSale();
    expect(refusalOf(await shop.put(saleId, document, { 'if-none-match': '*' }))).toBe(
      '412 version_conflict',
    );
    expect(refusalOf(await shop.put(saleId, document, { 'if-none-match': '"1"' }))).toBe(
      '400 invalid_request',
    );
    const free = shop.newSaleId();
    const refused = await shop.put(free, document, { 'if-match': '*' });
    expect([refusalOf(refused), problemOf(refused)]).toMatchObject([
      '412 version_conflict',
      { version: null },
    ]);
    expect((await shop.put(free, document, { 'if-none-match': '*' })).status).toBe(201);
  });
});

describe('in mid-sale', () => {
  test('stock goes up and down in both stores, a SKU comes in, and limits and window follow', async () => {
    const { saleId } = await openSale();
    await shopper.buy(saleId, 'lamp', 2);
    const changed = buildDocument({
      closesAt: fromNow(5),
      paymentWindowMs: 60_000,
      limitPerUser: 4,
      addressPurchasesPerMinute: 60,
      skus: [
        { ...LAMP, total: 2, limitPerUser: 1 },
        { ...MUG, total: 50 },
        { ...MUG, sku: 'new' },
      ],
    });
    const reply = await shop.put(saleId, changed);

    expect(saleOf(reply)).toMatchObject({
      version: 2,
      paymentWindowMs: 60_000,
      limitPerUser: 4,
      addressPurchasesPerMinute: 60,
    });
    expect(saleOf(reply).skus[0]).toMatchObject({ total: 2, available: 0, held: 2 });
    const totals = [
      ['lamp', 2],
      ['mug', 50],
      ['new', 5],
    ];
    expect(await totalsOf(saleId)).toEqual({ inRedis: totals, inMysql: totals });
    expect(await eventsOf(saleId)).toEqual([{ type: 'sale.opened' }, { type: 'sale.changed' }]);
    expect((await shopper.placeOrder({ saleId, items: [{ sku: 'new', quantity: 1 }] })).status).toBe(202);
  });

  test('the event of a change comes after that of the opening, and shows the stock of the answer', async () => {
    const { saleId } = await openSale();
    await shopper.buy(saleId, 'lamp', 2);
    const skus = [
      { ...LAMP, total: 20 },
      { ...MUG, total: 5 },
    ];
    const reply = await shop.put(saleId, buildDocument({ skus }));

    const rows = await select(
      api.stores.pool,
      'SELECT type, data FROM shop_events WHERE sale_id = ? ORDER BY event_id',
      [saleId],
    );
    const [opened, changed, ...others] = rows.map(({ type, data }) => ({
      type,
      ...JSON.parse(String(data)),
    }));
    expect(others).toEqual([]);
    expect(opened).toMatchObject({ type: 'sale.opened', sale: { state: 'open', version: 1 } });
    expect(opened.sale.skus[0]).toMatchObject({ total: 10, available: 8, held: 2 });
    expect(changed).toMatchObject({ type: 'sale.changed', sale: { version: 2 } });
    expect(changed.sale.skus).toEqual(saleOf(reply).skus);
    expect(changed.sale.skus[0]).toMatchObject({ total: 20, available: 18, held: 2 });
  });

  test('a total below what is held and sold is refused, and nothing of the change is made', async () => {
    const { saleId } = await openSale();
    await shopper.buy(saleId, 'lamp', 2);
    const skus = [...withTotals(1, 90), { ...MUG, sku: 'new' }];
    const refused = await shop.put(saleId, buildDocument({ name: 'Other', skus }));

    expect(refusalOf(refused)).toBe('409 stock_below_committed');
    expect(problemOf(refused)).toMatchObject({ sku: 'lamp', committed: 2 });
    const totals = [
      ['lamp', 10],
      ['mug', 5],
    ];
    expect(await totalsOf(saleId)).toEqual({ inRedis: totals, inMysql: totals });
    expect(saleOf(await shop.get(saleId))).toMatchObject({ version: 1, name: 'Autumn', pending: false });
    expect(await eventsOf(saleId)).toEqual([]);
    expect((await shop.put(saleId, buildDocument({ skus: withTotals(2) }))).status).toBe(200);
  });

  test.each([
    ['the currency', { currency: 'USD' }, 'currency'],
    ['the opening', { opensAt: fromNow(-2) }, 'opensAt'],
    ['a price', { skus: [{ ...LAMP, unitPrice: 1 }, MUG] }, 'skus.0.unitPrice'],
    ['the last of a SKU', { skus: [LAMP] }, 'skus'],
    ['being on at all', { draft: true }, 'draft'],
  ])('%s stays as it is', async (_, change, path) => {
    const { saleId, document } = await openSale();
    const refused = await shop.put(saleId, { ...document, ...change });
    expect(refusalOf(refused)).toBe('409 sale_rule_fixed');
    expect(problemOf(refused)).toMatchObject({ path });
    expect(saleOf(await shop.get(saleId)).version).toBe(1);
  });

  test('a pause stops sales and its end lets them go on; both may be repeated, and are in the log', async () => {
    const { saleId, document } = await openSale();
    expect(saleOf(await shop.act(saleId, 'pause', { reason: 'wrong picture' }))).toMatchObject({
      state: 'paused',
      version: 2,
    });
    expect(refusalOf(await shopper.placeOrder({ saleId, items: [{ sku: 'mug', quantity: 1 }] }))).toBe(
      '403 sale_paused',
    );
    expect(saleOf(await shop.act(saleId, 'pause')).version).toBe(2);
    // What is sent of the sale says nothing of its pause.
    expect(saleOf(await shop.put(saleId, { ...document, name: 'B' })).state).toBe('paused');
    expect(saleOf(await shop.act(saleId, 'resume')).state).toBe('open');
    await shopper.buy(saleId, 'mug');
    const logged = await select(
      api.stores.pool,
      'SELECT actor, action, reason FROM audit_log WHERE subject = ? ORDER BY entry_id',
      [`sale ${saleId}`],
    );
    expect(logged).toEqual([
      { actor: 'grace', action: 'sale_created', reason: null },
      { actor: 'grace', action: 'sale_changed', reason: 'wrong picture' },
      { actor: 'grace', action: 'sale_changed', reason: null },
      { actor: 'grace', action: 'sale_changed', reason: null },
    ]);
  });

  test('closing says what is unsold and still held, and is final', async () => {
    const { saleId, document } = await openSale();
    await shopper.buy(saleId, 'lamp', 2);
    const closed = saleOf(await shop.act(saleId, 'close', { reason: 'enough' }));
    expect(closed).toMatchObject({
      state: 'closed',
      skus: [
        { unsold: 8, held: 2 },
        { unsold: 5, held: 0 },
      ],
    });
    expect(refusalOf(await shopper.placeOrder({ saleId, items: [{ sku: 'mug', quantity: 1 }] }))).toBe(
      '403 sale_closed',
    );
    expect(saleOf(await shop.act(saleId, 'close'))).toEqual(closed);
    for (const reply of [
      await shop.put(saleId, { ...document, closesAt: fromNow(9) }),
      await shop.act(saleId, 'pause'),
    ])
      expect(refusalOf(reply)).toBe('409 sale_ended');
    expect(refusalOf(await shop.act(saleId, 'archive'))).toBe('409 sale_not_settled');
  });

  test('a sale that is closed before its opening never opens', async () => {
    const { saleId } = await openSale({ opensAt: fromNow(1), closesAt: fromNow(2) });
    expect(saleOf(await shop.act(saleId, 'close')).state).toBe('closed');
    expect(refusalOf(await shopper.placeOrder({ saleId, items: [{ sku: 'mug', quantity: 1 }] }))).toBe(
      '403 sale_closed',
    );
  });

  test('a draft is neither paused nor closed, and may be put away', async () => {
    const saleId = shop.newSaleId();
    await shop.put(saleId, buildDocument({ draft: true }));
    expect(refusalOf(await shop.act(saleId, 'pause'))).toBe('409 sale_is_draft');
    expect(refusalOf(await shop.act(saleId, 'close'))).toBe('409 sale_is_draft');
    expect(saleOf(await shop.act(saleId, 'archive')).state).toBe('archived');
    expect((await shop.act(saleId, 'archive')).status).toBe(200);
    expect(refusalOf(await shop.put(saleId, buildDocument()))).toBe('409 sale_ended');
  });
});

describe('a store that is away', () => {
  test('with Redis away a change is recorded, shown as pending, and made by the next process', async () => {
    const { saleId, document } = await openSale();
    const away = await api.withParts({
      saleStock: {
        ...api.stores.saleStock,
        change: () => Promise.reject(new Error('away')),
        read: () => Promise.reject(new Error('away')),
      },
    });
    const office = await openBackOffice(away.url);
    const skus = [...withTotals(20, 1), { ...MUG, sku: 'new' }];
    const unanswered = await office.put(saleId, { ...document, name: 'B', skus });
    expect(refusalOf(unanswered)).toBe('503 sale_change_unavailable');
    expect(unanswered.headers.get('retry-after')).toBe('1');
    const shown = saleOf(await office.get(saleId));
    expect(shown).toMatchObject({
      pending: true,
      version: 1,
      name: 'Autumn',
      skus: [{ total: 10 }, { total: 5 }],
    });
    expect(shown.skus).toHaveLength(2);
    await away.close();

    expect(saleOf(await shop.act(saleId, 'pause'))).toMatchObject({ pending: false, version: 3, name: 'B' });
    const totals = [
      ['lamp', 20],
      ['mug', 1],
      ['new', 5],
    ];
    expect(await totalsOf(saleId)).toEqual({ inRedis: totals, inMysql: totals });
  });

  test('while the data of a sale are made again it is not changed, and may be afterwards', async () => {
    const { saleId, document } = await openSale();
    const mark = 'UPDATE sales SET rebuilding_since = ? WHERE sale_id = ?';
    await api.stores.pool.query(mark, [new Date(), saleId]);
    const changed = { ...document, name: 'B' };
    expect(refusalOf(await shop.put(saleId, changed))).toBe('503 sale_change_unavailable');
    expect(saleOf(await shop.get(saleId)).pending).toBe(false);
    await api.stores.pool.query(mark, [null, saleId]);
    expect((await shop.put(saleId, changed)).status).toBe(200);
  });

  test('with MySQL away nothing is recorded or shown', async () => {
    const { saleId, document } = await openSale();
    const fail = () => Promise.reject(new Error('away'));
    const { saleChanges, sales } = api.stores;
    const away = await api.withParts({
      saleChanges: { ...saleChanges, record: fail, archive: fail },
      sales: { ...sales, read: fail, list: fail },
    });
    const office = await openBackOffice(away.url);
    expect(refusalOf(await office.put(saleId, { ...document, name: 'B' }))).toBe(
      '503 sale_change_unavailable',
    );
    expect(refusalOf(await office.act(saleId, 'archive'))).toBe('503 decision_unavailable');
    expect(refusalOf(await office.get(saleId))).toBe('503 sale_unavailable');
    expect(refusalOf(await office.list())).toBe('503 sale_unavailable');
    await away.close();
  });
});

test('a settled sale is put away: it is listed only where it is asked for, and hidden once', async () => {
  const { saleId } = await openSale();
  await shop.act(saleId, 'close');
  await api.stores.pool.query('UPDATE sales SET closed_at = NOW(3), settled_at = NOW(3) WHERE sale_id = ?', [
    saleId,
  ]);
  expect(saleOf(await shop.act(saleId, 'archive'))).toMatchObject({ state: 'archived' });
  await shop.act(saleId, 'archive');
  const { entries } = await selectOne(
    api.stores.pool,
    `SELECT COUNT(*) AS entries FROM audit_log WHERE action = 'sale_archived' AND subject = ?`,
    [`sale ${saleId}`],
  );
  expect(entries).toBe(1);
  expect(JSON.stringify((await shop.list('?state=archived')).body)).toContain(saleId);
  expect(JSON.stringify((await shop.list()).body)).not.toContain(saleId);
});

test('a list goes on where the page before ended, and has the sales of the state that is asked for', async () => {
  const own = await openApi();
  const office = await openBackOffice(own.url);
  const ids = ['a-draft', 'b-scheduled', 'c-open', 'd-paused', 'e-closed'];
  const later = { opensAt: fromNow(1), closesAt: fromNow(2) };
  const kinds = [{ draft: true }, later, {}, {}, { opensAt: fromNow(-2), closesAt: fromNow(-1) }];
  for (const [i, id] of ids.entries()) await office.put(id, buildDocument(kinds[i]));
  await office.act('d-paused', 'pause');

  const [first, second, third] = [
    await office.list('?limit=2'),
    await office.list('?limit=2&after=b-scheduled'),
    await office.list('?limit=2&after=d-paused'),
  ];
  const idsOf = ({ body }: { body: unknown }) =>
    [...JSON.stringify(body).matchAll(/"saleId":"([^"]+)"/g)].map((m) => m[1]);
  expect([first, second, third].flatMap(idsOf)).toEqual(ids);
  expect([first, second, third].map(({ body }) => Object(body).next)).toEqual([
    'b-scheduled',
    'd-paused',
    null,
  ]);
  for (const id of ids) expect(idsOf(await office.list(`?state=${id.slice(2)}`))).toEqual([id]);
  await own.close();
});

test('an end that shoppers were told of is final, also for a change that was recorded before it', async () => {
  const { saleId, document } = await openSale();
  // It has closed by the clock of Redis, and not yet by that of MySQL.
  const closesAtMs = Date.now() - 1;
  await api.stores.redis.hset(saleKeys({ saleId, shard: 0 }).sale, 'closes_at', String(closesAtMs));
  expect(refusalOf(await shopper.placeOrder({ saleId, items: [{ sku: 'mug', quantity: 1 }] }))).toBe(
    '403 sale_closed',
  );
  const longer = { ...document, closesAt: fromNow(5) };
  expect(refusalOf(await shop.put(saleId, longer))).toBe('409 sale_ended');
  expect(refusalOf(await shop.put(saleId, longer))).toBe('409 sale_ended');
  expect((await api.stores.saleStock.read(saleId))?.state).toBe('closed');
  expect(saleOf(await shop.get(saleId))).toMatchObject({ closesAt: document['closesAt'], pending: false });
});
