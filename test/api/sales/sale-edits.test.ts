/** The shop changes parts of a sale, adds units to it once, and sends a sale back as it was shown. */

import { beforeAll, describe, expect, test } from 'vitest';
import { select } from '../../support/rows.ts';
import { problemOf, refusalOf } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { buildDocument, fromNow, openBackOffice, saleOf, type BackOffice } from './back-office.ts';

let api: TestApi;
let shop: BackOffice;
beforeAll(async () => {
  api = await openApi();
  shop = await openBackOffice(api.url);
});

/** A sale that is on. */
async function openSale(overrides: object = {}): Promise<string> {
  const saleId = shop.newSaleId();
  await shop.put(saleId, buildDocument(overrides));
  await api.stores.sales.warmUp(saleId, api.stores.saleStock);
  return saleId;
}

const shownSale = async (saleId: string) => saleOf(await shop.get(saleId));
/** Of the lamps, in both stores. */
async function totalsOf(saleId: string) {
  const [inMysql] = await api.stores.sales.readStock(saleId);
  const inRedis = (await api.stores.saleStock.read(saleId))?.skus[0];
  return [inRedis?.total, inMysql?.total];
}
const lamps = (wish: object) => ({ skus: [{ sku: 'lamp', ...wish }] });
const ofVersion = (version: number) => ({ 'if-match': `"${version}"` });
const isMergePatch = { 'content-type': 'application/merge-patch+json' };

/** What was asked, with its reason, of each change in the log. */
async function loggedOf(saleId: string) {
  const sql = `SELECT actor, reason, detail FROM audit_log WHERE subject = ? AND action = 'sale_changed' ORDER BY entry_id`;
  const rows = await select(api.stores.pool, sql, [`sale ${saleId}`]);
  return rows.map(({ actor, reason, detail }) => ({ actor, reason, ...JSON.parse(String(detail)) }));
}

test.each<[string, object, (saleId: string) => Promise<unknown>]>([
  ['has units held', { limitPerUser: 3 }, async (saleId) => (await api.shopper()).buy(saleId, 'lamp', 2)],
  ['is paused', { verification: { kind: 'proof_of_work' } }, (saleId) => shop.act(saleId, 'pause')],
  ['is closed', { metadata: { team: 'blue' } }, (saleId) => shop.act(saleId, 'close')],
])('a sale that %s stays as it is when the shop sends back what it was shown', async (_, rules, happen) => {
  const saleId = await openSale(rules);
  await happen(saleId);
  const shown = await shop.get(saleId);

  const reply = await shop.put(saleId, Object(shown.body), { 'if-match': shown.headers.get('etag') ?? '' });

  expect([reply.status, reply.body]).toEqual([200, shown.body]);
});

describe('a patch', () => {
  test('changes what it names, leaves the rest, and is in the log', async () => {
    const saleId = await openSale({ limitPerUser: 3, metadata: { team: 'blue', wave: '1' } });
    const before = await shownSale(saleId);
    const patch = { name: 'B', maxUnpaidHolds: 2, metadata: { wave: null, shelf: '7' } };

    const reply = await shop.patch(saleId, patch, isMergePatch);

    expect(reply.headers.get('etag')).toBe('"2"');
    const changed = { name: 'B', maxUnpaidHolds: 2, metadata: { team: 'blue', shelf: '7' }, version: 2 };
    expect(saleOf(reply)).toEqual({ ...before, ...changed });
    expect(await loggedOf(saleId)).toMatchObject([{ actor: 'grace', asked: 'patch', version: 2 }]);
  });

  test('with null sets what is so unless the shop says otherwise', async () => {
    const saleId = await openSale({ limitPerUser: 3, paymentWindowMs: 60_000, reference: 'R' });
    const reply = await shop.patch(saleId, { limitPerUser: null, paymentWindowMs: null, reference: null });
    expect(saleOf(reply)).toMatchObject({ limitPerUser: null, paymentWindowMs: 30 * 60_000 });
    expect(saleOf(reply)).not.toHaveProperty('reference');
  });

  test('of another version is refused, and one that has been made is answered as done', async () => {
    const saleId = await openSale();
    expect((await shop.patch(saleId, { name: 'B' }, ofVersion(1))).status).toBe(200);
    const again = await shop.patch(saleId, { name: 'B' }, ofVersion(1));
    expect([again.status, again.headers.get('etag')]).toEqual([200, '"2"']);
    const refused = await shop.patch(saleId, { name: 'C' }, ofVersion(1));
    expect([refusalOf(refused), problemOf(refused)]).toMatchObject(['412 version_conflict', { version: 2 }]);
  });

  test('overwrites nothing of another that is sent at the same time', async () => {
    const saleId = await openSale();
    const patches = [{ name: 'B' }, { limitPerUser: 7 }, { maxUnpaidHolds: 5 }];
    const replies = await Promise.all(patches.map((patch) => shop.patch(saleId, patch)));
    expect(replies.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(await shownSale(saleId)).toMatchObject({ ...Object.assign({}, ...patches), version: 4 });
  });

  test('makes a sale of a draft', async () => {
    const saleId = shop.newSaleId();
    await shop.put(saleId, buildDocument({ draft: true }));
    expect(saleOf(await shop.patch(saleId, { draft: false })).state).toBe('open');
    expect(await totalsOf(saleId)).toEqual([10, 10]);
  });

  test.each<[string, object, string]>([
    ['of what only GET shows', { paused: true }, ''],
    ['that removes what must be there', { name: null }, 'name'],
    ['after which the sale closes before it opens', { closesAt: fromNow(-5) }, 'closesAt'],
    ['with metadata that are no text', { metadata: { a: { b: 'c' } } }, 'metadata.a'],
    ['with a cost that is no number', { verification: { costKib: 'much' } }, 'verification.costKib'],
    ['that names no kind of a verification', { verification: { costKib: 64 } }, 'verification.kind'],
  ])('%s is refused with the path of the fault', async (_, patch, path) => {
    const saleId = await openSale();
    const refused = await shop.patch(saleId, patch);
    expect([refusalOf(refused), problemOf(refused)]).toMatchObject([
      '400 invalid_request',
      { faults: [{ path }] },
    ]);
    expect((await shownSale(saleId)).version).toBe(1);
  });

  test('of a rule that is fixed while the sale is on, or of no sale, is refused', async () => {
    const refused = await shop.patch(await openSale(), { currency: 'USD' });
    expect([refusalOf(refused), problemOf(refused)]).toMatchObject([
      '409 sale_rule_fixed',
      { path: 'currency' },
    ]);
    expect(refusalOf(await shop.patch(shop.newSaleId(), { name: 'B' }))).toBe('404 sale_not_found');
  });
});

describe('a change of stock', () => {
  test('counts once: its repeat is refused, and the log has its reason', async () => {
    const saleId = await openSale();
    const delivery = { ...lamps({ change: 10 }), reason: 'delivery 17' };

    const reply = await shop.stock(saleId, delivery, ofVersion(1));
    const again = await shop.stock(saleId, delivery, ofVersion(1));

    expect(saleOf(reply).skus[0]).toMatchObject({ total: 20, available: 20 });
    expect([refusalOf(again), problemOf(again)]).toMatchObject(['412 version_conflict', { version: 2 }]);
    expect(await totalsOf(saleId)).toEqual([20, 20]);
    expect(await loggedOf(saleId)).toMatchObject([
      { actor: 'grace', reason: 'delivery 17', asked: 'stock', changes: [{ from: 10, to: 20 }] },
    ]);
  });

  test('that two people send at once is made for one of them', async () => {
    const saleId = await openSale();
    const send = () => shop.stock(saleId, lamps({ change: -3 }), ofVersion(1));
    const replies = await Promise.all([send(), send()]);
    expect(replies.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 412]);
    expect(await totalsOf(saleId)).toEqual([7, 7]);
  });

  test('that was recorded while Redis was away counts once with its repeat', async () => {
    const saleId = await openSale();
    const change = () => Promise.reject(new Error('away'));
    const away = await api.withParts({ saleStock: { ...api.stores.saleStock, change } });
    const delivery = lamps({ change: 10 });
    const unanswered = await (await openBackOffice(away.url)).stock(saleId, delivery, ofVersion(1));
    expect(refusalOf(unanswered)).toBe('503 sale_change_unavailable');
    await away.close();

    expect(refusalOf(await shop.stock(saleId, delivery, ofVersion(1)))).toBe('412 version_conflict');
    expect(await totalsOf(saleId)).toEqual([20, 20]);
  });

  test('without a version is refused, and a total may be sent without one, again too', async () => {
    const saleId = await openSale();
    for (const headers of [{}, { 'if-match': '*' }])
      expect(refusalOf(await shop.stock(saleId, lamps({ change: 1 }), headers))).toBe('428 version_required');
    for (let i = 0; i < 2; i += 1)
      expect(saleOf(await shop.stock(saleId, lamps({ total: 12 }))).version).toBe(2);
    expect(await totalsOf(saleId)).toEqual([12, 12]);
  });

  test('of several SKUs is made whole or not at all', async () => {
    const saleId = await openSale();
    await (await api.shopper()).buy(saleId, 'lamp', 2);
    const both = (change: number) => ({
      skus: [
        { sku: 'mug', total: 50 },
        { sku: 'lamp', change },
      ],
    });

    const refused = await shop.stock(saleId, both(-9), ofVersion(1));

    expect([refusalOf(refused), problemOf(refused)]).toMatchObject([
      '409 stock_below_committed',
      { sku: 'lamp', committed: 2 },
    ]);
    const changed = saleOf(await shop.stock(saleId, both(-8), ofVersion(1)));
    expect(changed.skus).toMatchObject([
      { total: 2, available: 0, held: 2 },
      { total: 50, available: 50 },
    ]);
  });

  test.each<[string, object, string]>([
    ['of a SKU that the sale does not have', { skus: [{ sku: 'new', total: 1 }] }, '400 unknown_sku'],
    ['below nothing', lamps({ change: -11 }), '400 invalid_request'],
    ['that says both', lamps({ change: 1, total: 11 }), '400 invalid_request'],
    [
      'of a SKU twice',
      { skus: [...lamps({ total: 1 }).skus, ...lamps({ total: 2 }).skus] },
      '400 invalid_request',
    ],
  ])('%s is refused', async (_, body, refusal) => {
    const saleId = await openSale();
    expect(refusalOf(await shop.stock(saleId, body, ofVersion(1)))).toBe(refusal);
    expect(await totalsOf(saleId)).toEqual([10, 10]);
  });

  test('is no merge patch', async () => {
    const reply = await shop.stock(await openSale(), lamps({ total: 1 }), isMergePatch);
    expect(refusalOf(reply)).toBe('415 unsupported_media_type');
  });
});
