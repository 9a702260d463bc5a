/** Two calls of administrators: what they ask of the store, and how each of its outcomes is answered. */

import { SignJWT } from 'jose';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { signToken } from '../../src/api/http/auth.ts';
import type { Stores } from '../../src/stores/open.ts';
import { buildOrder } from '../support/factories.ts';
import type { HttpApp } from '../support/http-app.ts';
import { JWT_SECRET, refusalOf, send, type Reply } from '../support/shopper.ts';
import { openApi, type TestApi } from './open-api.ts';

type Refunds = Stores['refunds'];

let api: TestApi;
let app: HttpApp;
let admin: string;
/** What the store was asked to do, and what it answers. */
let asked: unknown[][];
let request: Awaited<ReturnType<Refunds['request']>> | Error;
let returnStock: Awaited<ReturnType<Refunds['returnStock']>> | Error;

beforeAll(async () => {
  api = await openApi();
  const refunds = {
    ...api.stores.refunds,
    request: async (...args: Parameters<Refunds['request']>) => answer(args, request),
    returnStock: async (...args: Parameters<Refunds['returnStock']>) => answer(args, returnStock),
  };
  app = await api.withParts({ refunds });
  admin = await signToken(JWT_SECRET, 'grace', '1h', { roles: ['admin'] });
});
beforeEach(() => {
  asked = [];
  request = 'requested';
  returnStock = 'returned';
});

function answer<T>(args: unknown[], outcome: T | Error): T {
  asked.push(args);
  if (outcome instanceof Error) throw outcome;
  return outcome;
}

const AWAY = new Error('connect ECONNREFUSED');
const { orderNo } = buildOrder();
const REFUND = '/v1/admin/payments/7/refund';
const RETURN = `/v1/admin/orders/${orderNo}/return-stock`;

const post = (path: string, token = admin, body?: object): Promise<Reply> =>
  send(`${app.url}${path}`, 'POST', {
    headers: { authorization: `Bearer ${token}` },
    ...(body === undefined ? {} : { body }),
  });

/** A valid token with this for its roles, whatever it is. */
const tokenWith = (roles: unknown): Promise<string> =>
  new SignJWT({ roles })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject('ada')
    .setIssuer('holdfast')
    .setExpirationTime('1h')
    .sign(new TextEncoder().encode(JWT_SECRET));

test.each([
  ['an empty list', []],
  ['others', ['support', 'Admin', 'administrator']],
  ['text', 'admin'],
  ['null', null],
  ['an object', { admin: true }],
  ['nested lists', [['admin']]],
])('roles that are %s make no administrator', async (_, roles) => {
  expect(refusalOf(await post(REFUND, await tokenWith(roles)))).toBe('403 forbidden');
  expect(asked).toEqual([]);
});

test.each([
  [REFUND, 7, { paymentId: 7, refund: 'requested' }],
  [RETURN, orderNo, { orderNo, stock: 'returned' }],
])('%s is asked of the store under the administrator', async (path, subject, body) => {
  expect(await post(path)).toMatchObject({ status: 202, body });
  expect(asked).toEqual([[subject, 'grace', null]]);
});

test.each(['0', '-1', '07', '7.5', '1e3', 'seven', '9'.repeat(16), "1'--"])(
  'the store is not asked for what is no number of a payment, %s',
  async (text) => {
    const path = `/v1/admin/payments/${encodeURIComponent(text)}/refund`;
    expect(refusalOf(await post(path))).toBe('404 payment_not_found');
    expect(asked).toEqual([]);
  },
);

test('the store is not asked for what is no orderNo', async () => {
  expect(refusalOf(await post('/v1/admin/orders/nope/return-stock'))).toBe('404 order_not_found');
  expect(asked).toEqual([]);
});

test.each([
  ['not-refundable', '409 not_refundable'],
  ['unknown', '404 payment_not_found'],
  [AWAY, '503 decision_unavailable'],
] as const)('a refund for which the store answers %s is refused: %s', async (outcome, refusal) => {
  request = outcome;
  expect(refusalOf(await post(REFUND))).toBe(refusal);
});

test.each([
  ['not-refunded', '409 not_refunded'],
  ['unknown', '404 order_not_found'],
  [AWAY, '503 decision_unavailable'],
] as const)('a return for which the store answers %s is refused: %s', async (outcome, refusal) => {
  returnStock = outcome;
  expect(refusalOf(await post(RETURN))).toBe(refusal);
});

describe('a reason', () => {
  test.each([
    [REFUND, 7],
    [RETURN, orderNo],
  ])('%s may carry one, which is recorded', async (path, subject) => {
    expect((await post(path, admin, { reason: ' The parcel came back. ' })).status).toBe(202);
    expect(asked).toEqual([[subject, 'grace', 'The parcel came back.']]);
  });

  test.each([{ reason: '' }, { reason: 'x'.repeat(501) }, { reason: 7 }, { because: 'so' }, []])(
    'that is none is refused, and the store is not asked: %j',
    async (body) => {
      expect(refusalOf(await post(REFUND, admin, body))).toBe('400 invalid_request');
      expect(asked).toEqual([]);
    },
  );
});
