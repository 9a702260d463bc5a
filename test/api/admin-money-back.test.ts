/** Administrators' calls: their rights, what they ask of the store, and how each outcome is answered. */

import { SignJWT } from 'jose';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
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
afterAll(async () => {
  await app.close();
  await api.close();
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

describe('the right to decide', () => {
  test.each([REFUND, RETURN])('%s needs a token', async (path) => {
    expect(refusalOf(await send(`${app.url}${path}`, 'POST'))).toBe('401 unauthorized');
    expect(asked).toEqual([]);
  });

  test.each([REFUND, RETURN])('%s is not for shoppers', async (path) => {
    const token = await signToken(JWT_SECRET, 'ada', '1h');
    expect(refusalOf(await post(path, token))).toBe('403 forbidden');
    expect(asked).toEqual([]);
  });

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

  test('an administrator may have other roles beside', async () => {
    expect((await post(REFUND, await tokenWith(['support', 'admin']))).status).toBe(202);
  });

  test("an administrator's token without a valid signature is refused", async () => {
    const forged = await signToken('another-secret-that-is-long-enough-for-it', 'grace', '1h', {
      roles: ['admin'],
    });
    expect(refusalOf(await post(REFUND, forged))).toBe('401 unauthorized');
  });
});

describe('a refund', () => {
  test('is recorded under the administrator, and answers the same when it is repeated', async () => {
    const first = await post(REFUND);
    const second = await post(REFUND);
    expect([first.status, second.status]).toEqual([202, 202]);
    expect(first.body).toEqual({ paymentId: 7, refund: 'requested' });
    expect(second.body).toEqual(first.body);
    expect(asked).toEqual([
      [7, 'grace', null],
      [7, 'grace', null],
    ]);
  });

  test('of money that cannot go back now is refused', async () => {
    request = 'not-refundable';
    expect(refusalOf(await post(REFUND))).toBe('409 not_refundable');
  });

  test('of a payment that is not there is not found', async () => {
    request = 'unknown';
    expect(refusalOf(await post(REFUND))).toBe('404 payment_not_found');
  });

  test.each(['0', '-1', '07', '7.5', '1e3', 'seven', '9'.repeat(16), "1'--"])(
    'of what is no number of a payment, %s, is not found, and the store is not asked',
    async (text) => {
      const path = `/v1/admin/payments/${encodeURIComponent(text)}/refund`;
      expect(refusalOf(await post(path))).toBe('404 payment_not_found');
      expect(asked).toEqual([]);
    },
  );

  test('is not promised while the store is away', async () => {
    request = new Error('connect ECONNREFUSED');
    const reply = await post(REFUND);
    expect(refusalOf(reply)).toBe('503 decision_unavailable');
    expect(reply.headers.get('retry-after')).toBe('1');
  });
});

describe('return of stock', () => {
  test('is recorded under the administrator, and answers the same when it is repeated', async () => {
    const first = await post(RETURN);
    const second = await post(RETURN);
    expect([first.status, second.status]).toEqual([202, 202]);
    expect(first.body).toEqual({ orderNo, stock: 'returned' });
    expect(second.body).toEqual(first.body);
    expect(asked).toEqual([
      [orderNo, 'grace', null],
      [orderNo, 'grace', null],
    ]);
  });

  test('of an order whose money has not gone back is refused', async () => {
    returnStock = 'not-refunded';
    expect(refusalOf(await post(RETURN))).toBe('409 not_refunded');
  });

  test('of an order that is not there is not found', async () => {
    returnStock = 'unknown';
    expect(refusalOf(await post(RETURN))).toBe('404 order_not_found');
  });

  test('of what is no orderNo is not found, and the store is not asked', async () => {
    expect(refusalOf(await post('/v1/admin/orders/nope/return-stock'))).toBe('404 order_not_found');
    expect(asked).toEqual([]);
  });

  test('is not promised while the store is away', async () => {
    returnStock = new Error('connect ECONNREFUSED');
    expect(refusalOf(await post(RETURN))).toBe('503 decision_unavailable');
  });
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
