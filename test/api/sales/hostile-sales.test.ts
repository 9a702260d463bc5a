/** Whatever is sent as a sale: a clear refusal, and nothing is changed. */

import { beforeAll, describe, expect, test } from 'vitest';
import { MAX_SALE_BODY_BYTES } from '../../../src/api/calls/sales.ts';
import { problemOf, refusalOf } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { buildDocument, fromNow, LAMP, MUG, openBackOffice, saleOf, type BackOffice } from './back-office.ts';

let api: TestApi;
let shop: BackOffice;
let saleId: string;
let before: unknown;
beforeAll(async () => {
  api = await openApi();
  shop = await openBackOffice(api.url);
  saleId = shop.newSaleId();
  before = (await shop.put(saleId, buildDocument())).body;
  await api.stores.sales.warmUp(saleId, api.stores.saleStock);
});

const skus = (change: object) => ({ skus: [{ ...LAMP, ...change }, MUG] });
const keys = Object.fromEntries(Array.from({ length: 11 }, (_, i) => [`k${i}`, 'v']));

describe('a document', () => {
  test.each<[string, object, string]>([
    ['without a name', { name: undefined }, 'name'],
    ['with an empty name', { name: '' }, 'name'],
    ['with a name too long', { name: 'x'.repeat(201) }, 'name'],
    ['with a control character', { name: 'a\u0000b' }, 'name'],
    ['with half a character', { name: '\ud800' }, 'name'],
    ['with another type', { name: { toString: 'x' } }, 'name'],
    ['with a currency in small letters', { currency: 'eur' }, 'currency'],
    ['without any currency', { currency: 'XXX' }, 'currency'],
    ['in a currency for tests', { currency: 'XTS' }, 'currency'],
    ['in gold', { currency: 'XAU' }, 'currency'],
    ['in drawing rights', { currency: 'XDR' }, 'currency'],
    ['in a currency that no country has', { currency: 'ZZZ' }, 'currency'],
    ['with a time that is none', { opensAt: 'tomorrow' }, 'opensAt'],
    ['with a time without a zone', { opensAt: '2026-11-21T10:00:00' }, 'opensAt'],
    ['with a number for a time', { opensAt: 1_700_000_000_000 }, 'opensAt'],
    ['with a time before our calendar', { opensAt: '0000-01-01T00:00:00Z' }, 'opensAt'],
    ['with a time beyond the bound', { closesAt: '9999-12-31T23:59:59Z' }, 'closesAt'],
    ['that closes before it opens', { opensAt: fromNow(2), closesAt: fromNow(1) }, 'closesAt'],
    ['with no time to pay', { paymentWindowMs: 0 }, 'paymentWindowMs'],
    ['with days to pay', { paymentWindowMs: 1e12 }, 'paymentWindowMs'],
    ['with a rule that is no yes or no', { refundRestoresLimit: 'yes' }, 'refundRestoresLimit'],
    ['with a ticket rule that is no yes or no', { ticketRequired: 1 }, 'ticketRequired'],
    ['with a limit of none', { limitPerUser: 0 }, 'limitPerUser'],
    ['with a limit in parts', { limitPerUser: 1.5 }, 'limitPerUser'],
    ['with no purchases from an address', { addressPurchasesPerMinute: 0 }, 'addressPurchasesPerMinute'],
    ['with a member that is not known', { stock: 1 }, ''],
    ['with a reference too long', { reference: 'x'.repeat(129) }, 'reference'],
    ['with an empty reference', { reference: '' }, 'reference'],
    ['with metadata of too many keys', { metadata: keys }, 'metadata'],
    ['with metadata that are no text', { metadata: { a: 1 } }, 'metadata.a'],
    ['with a key that is no word', { metadata: { 'a b': 'x' } }, 'metadata.a b'],
    ['without SKUs', { skus: [] }, 'skus'],
    [
      'with too many SKUs',
      { skus: Array.from({ length: 201 }, (_, i) => ({ ...MUG, sku: `m${i}` })) },
      'skus',
    ],
    ['with a SKU twice', { skus: [MUG, MUG] }, 'skus'],
    ['with a SKU that cannot be seen', skus({ sku: 'a\u200bb' }), 'skus.0.sku'],
    ['with a SKU too long', skus({ sku: 'x'.repeat(101) }), 'skus.0.sku'],
    ['with a price below nothing', skus({ unitPrice: -1 }), 'skus.0.unitPrice'],
    ['with a total below nothing', skus({ total: -1 }), 'skus.0.total'],
    ['with a total beyond the bound', skus({ total: 1e9 }), 'skus.0.total'],
    ['with a total as text', skus({ total: '10' }), 'skus.0.total'],
    ['with a member of a SKU that is not known', skus({ stock: 1 }), 'skus.0'],
  ])('%s is refused with the path of the fault', async (_, change, path) => {
    const refused = await shop.put(saleId, buildDocument(change));
    expect(refusalOf(refused)).toBe('400 invalid_request');
    expect(problemOf(refused)).toMatchObject({ faults: [{ path }] });
  });

  test.each([
    ['cut off', '{"name":'],
    ['a list', '[]'],
    ['a word', '"sale"'],
    ['with a prototype', '{"__proto__":{"name":"x"}}'],
  ])('that is %s is refused', async (_, text) => {
    const refused = await shop.put(saleId, text, { 'content-type': 'application/json' });
    expect(refused.status).toBe(400);
  });

  test('larger than the bound is refused, and the fullest that fits the rules is not', async () => {
    const big = {
      metadata: Object.fromEntries(Array.from({ length: 5 }, (_, i) => [`key${i}`, 'é'.repeat(95)])),
    };
    const full = Array.from({ length: 200 }, (_, i) => ({
      ...big,
      sku: `${i}`.padEnd(100, 'x'),
      name: 'n'.repeat(200),
      reference: 'r'.repeat(128),
      unitPrice: 1_000,
      total: 1_000,
      limitPerUser: 1,
    }));
    const id = shop.newSaleId();
    expect((await shop.put(id, buildDocument({ skus: full }))).status).toBe(201);
    await api.stores.sales.warmUp(id, api.stores.saleStock);
    const changed = full.map((item) => ({ ...item, total: 2_000, metadata: { other: 'x' } }));
    expect(saleOf(await shop.put(id, buildDocument({ skus: changed }))).skus[199]).toMatchObject({
      available: 2_000,
    });
    const tooBig = await shop.put(saleId, JSON.stringify({ name: 'x'.repeat(MAX_SALE_BODY_BYTES) }));
    expect(refusalOf(tooBig)).toBe('413 body_too_large');
  });
});

test.each(['UPPER', 'a'.repeat(33), 'a--b', '-a', 'a_b', '%00', "a'%20OR%201", '..%2f..%2fetc', 'é'])(
  'an id that no sale has (%s) is refused, however it is called',
  async (id) => {
    expect(refusalOf(await shop.put(id, buildDocument()))).toBe('400 invalid_request');
    expect(refusalOf(await shop.get(id))).toBe('404 sale_not_found');
    for (const action of ['pause', 'resume', 'close', 'archive'] as const)
      expect(refusalOf(await shop.act(id, action))).toBe('404 sale_not_found');
  },
);

test('a sale that does not exist is neither shown nor ended', async () => {
  const id = shop.newSaleId();
  expect(refusalOf(await shop.get(id))).toBe('404 sale_not_found');
  for (const action of ['pause', 'resume', 'close', 'archive'] as const)
    expect(refusalOf(await shop.act(id, action))).toBe('404 sale_not_found');
});

test.each([
  '?limit=0',
  '?limit=51',
  '?limit=1e1',
  '?limit=-1',
  '?limit=1&limit=2',
  '?state=OPEN',
  '?state=open&state=draft',
  '?after=A',
  '?after=',
  '?offset=1',
])('a list asked for with %s is refused', async (query) => {
  expect(refusalOf(await shop.list(query))).toBe('400 invalid_request');
});

test.each([{ reason: '' }, { reason: 'x'.repeat(501) }, { reason: 7 }, { why: 'x' }, []])(
  'a decision with the body %o is refused',
  async (body) => {
    expect(refusalOf(await shop.act(saleId, 'close', body))).toBe('400 invalid_request');
  },
);

test.each(['null', '[]', '"close"', '7', 'true'])(
  'a body of %s, which is no object, is refused with one code by every call',
  async (body) => {
    expect(refusalOf(await shop.put(saleId, body))).toBe('400 invalid_request');
    for (const action of ['pause', 'close', 'archive'])
      expect(refusalOf(await shop.call('POST', `/${saleId}/${action}`, body))).toBe('400 invalid_request');
  },
);

test('after all of that the sale is as it was', async () => {
  expect((await shop.get(saleId)).body).toEqual(before);
});
