/** The contract itself: a test that gets another answer fails, and each published code is sent. */

import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { PROBLEMS } from '../../src/api/http/problem-codes.ts';
import { Problem, problemDocument } from '../../src/api/http/problem.ts';
import { checkReply } from '../support/api-contract.ts';

const ORDERS = 'http://shop/v1/orders';
const json = new Headers({ 'content-type': 'application/json' });
const problemJson = new Headers({ 'content-type': 'application/problem+json' });

const order = {
  orderNo: 's-0-1-01JD0000000000000000000000',
  saleId: 's',
  status: 'queued',
  version: 0,
  payment: 'none',
  refunded: 0,
  reason: null,
  closing: false,
  items: [{ sku: 'lamp', quantity: 1, unitPrice: 4_900 }],
  charges: [],
  total: 4_900,
  currency: 'EUR',
  reference: null,
  metadata: {},
  reservedAt: '2026-11-21T10:00:00.000Z',
  deadline: '2026-11-21T10:30:00.000Z',
  pollAfterMs: 1_000,
};
const soldOut: unknown = JSON.parse(
  problemDocument(new Problem('sold_out', { extra: { sku: 'lamp', available: 0, held: 0, openOrders: [] } })),
);

const check =
  (status: number, body: unknown, headers = json) =>
  () =>
    checkReply('POST', ORDERS, { status, headers, body });

test('what is promised passes', () => {
  expect(check(202, order)).not.toThrow();
  expect(check(409, soldOut, problemJson)).not.toThrow();
});

test.each<[string, () => void]>([
  ['a member that no schema names', check(202, { ...order, internalId: 7 })],
  ['a member too few', check(202, { ...order, items: undefined })],
  ['a status of the order that does not exist', check(202, { ...order, status: 'lost' })],
  ['a status of HTTP that is not promised', check(203, order)],
  ['an order under a route that shows none', () => checkReply('GET', 'http://shop/healthz', reply(order))],
  ['an answer of a route that does not exist', () => checkReply('GET', 'http://shop/v1/x', reply(order))],
  ['a refusal that is no problem document', check(409, soldOut, json)],
  ['a code that is not published', check(409, { ...Object(soldOut), code: 'gone' }, problemJson)],
  ['a code with another status', check(410, { ...Object(soldOut), status: 410 }, problemJson)],
  ['a document that differs from its status line', check(400, soldOut, problemJson)],
  ['a member of another code', check(409, { ...Object(soldOut), limit: 2 }, problemJson)],
  ['a word of the inside', check(409, { ...Object(soldOut), detail: 'Redis says no.' }, problemJson)],
])('%s fails', (_, act) => {
  expect(act).toThrow();
});

function reply(body: unknown) {
  return { status: 200, headers: json, body };
}

/** The compiler refuses a code that is not published; the other way round only the source can be asked. */
test('each published code is sent from somewhere', () => {
  const folder = new URL('../../src/api/', import.meta.url);
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
    (name) => name.endsWith('.ts') && !/(?:problem-codes|replies)\.ts$/.test(name),
  );
  const source = files.map((name) => readFileSync(new URL(name, folder), 'utf8')).join('\n');
  // It is thrown, or an entry names it for an outcome of its handler.
  const named = source.matchAll(/(?:new Problem\(|unavailable\(|\w'?: )\s*'([a-z_]+)'/g);
  const sent = new Set(Array.from(named, ([, code]) => String(code)));

  expect(Object.keys(PROBLEMS).filter((code) => !sent.has(code))).toEqual([]);
});
