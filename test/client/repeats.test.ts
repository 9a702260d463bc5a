/** What the client sends again, when, and how often. */

import { expect, test } from 'vitest';
import { createAdmin } from '../../packages/client/src/admin.ts';
import { createClient, HoldfastError } from '../../packages/client/src/index.ts';
import { waitFor } from '../support/wait.ts';
import { buildOrder, hangUp, reply, scriptService } from './scripted-service.ts';

const CART = { saleId: 'demo', items: [{ sku: 'mug', quantity: 1 }] };

test('a purchase without an answer is sent again with its key, until it is answered', async () => {
  const { url, seen } = await scriptService(
    hangUp,
    reply(500, { code: 'internal_error' }),
    reply(202, buildOrder()),
  );
  const order = await createClient({ url, token: 't' }).place(CART);

  expect(order.orderNo).toBe('demo-0-1-A');
  expect(seen.map(({ call }) => call)).toEqual(Array(3).fill('POST /v1/orders'));
  expect(new Set(seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
  expect(new Set(seen.map(({ body }) => body))).toEqual(new Set([JSON.stringify(CART)]));
  expect(seen[0]?.headers).toMatchObject({ authorization: 'Bearer t', 'content-type': 'application/json' });
});

test('two purchases have two keys, and a purchase has the key that it is given', async () => {
  const { url, seen } = await scriptService(reply(202, buildOrder()));
  const client = createClient({ url });
  await client.place(CART);
  await client.place(CART);
  await client.place(CART, { idempotencyKey: 'mine', waitSeconds: 5 });

  const keys = seen.map(({ headers }) => headers['idempotency-key']);
  expect(new Set(keys).size).toBe(3);
  expect(seen[2]?.headers).toMatchObject({ 'idempotency-key': 'mine', prefer: 'wait=5' });
});

test.each([
  [429, 'seconds', () => '1'],
  [503, 'seconds', () => '1'],
  [503, 'a date', () => new Date(Date.now() + 2_000).toUTCString()],
])('after %i with a Retry-After in %s the call comes again, and no sooner', async (status, _, write) => {
  const after = write();
  const { url, seen } = await scriptService(
    reply(status, { code: 'overloaded' }, { 'Retry-After': after }),
    reply(200, buildOrder()),
  );
  await createClient({ url }).order('demo-0-1-A');

  const [first = NaN, again = NaN] = seen.map(({ atMs }) => atMs);
  const askedForMs = /^\d+$/.test(after) ? first + Number(after) * 1_000 : Date.parse(after);
  // A timer may end a millisecond early by the clock.
  expect(again).toBeGreaterThanOrEqual(askedForMs - 50);
});

test('a Retry-After beyond its patience is told and not waited for', async () => {
  const busy = { code: 'too_many_attempts', title: 'Later' };
  const { url, seen } = await scriptService(reply(429, busy, { 'Retry-After': '3600' }));
  await expect(createClient({ url }).pay('demo-0-1-A')).rejects.toMatchObject({
    name: 'HoldfastError',
    status: 429,
    code: 'too_many_attempts',
    retryAfterMs: 3_600_000,
  });
  expect(seen).toHaveLength(1);
});

test('a call is sent a bounded number of times', async () => {
  const { url, seen } = await scriptService(hangUp);
  await expect(createClient({ url, triesMax: 3 }).place(CART)).rejects.toMatchObject({
    status: 0,
    code: 'no_answer',
  });
  expect(seen).toHaveLength(3);
});

test('a refusal is thrown at once, with its code and what belongs to it', async () => {
  const problem = { code: 'sold_out', detail: 'There are not enough units left.', sku: 'mug', available: 0 };
  const { url, seen } = await scriptService(reply(409, problem));
  const refused: unknown = await createClient({ url })
    .place(CART)
    .catch((error: unknown) => error);

  expect(refused).toBeInstanceOf(HoldfastError);
  expect(refused).toMatchObject({ status: 409, code: 'sold_out', message: problem.detail, problem });
  expect(seen).toHaveLength(1);
});

test('an order that the end of its wait cancels is not placed again', async () => {
  const { url, seen } = await scriptService(reply(504, { code: 'wait_ended' }));
  await expect(createClient({ url }).place(CART)).rejects.toMatchObject({ status: 504 });
  expect(seen).toHaveLength(1);
});

test('a payment waits until its order can be paid', async () => {
  const page = { orderNo: 'demo-0-1-A', url: 'https://pay.example/1', expiresAt: '2026-11-24T12:00:00Z' };
  const { url, seen } = await scriptService(
    reply(409, { code: 'not_yet_payable' }, { 'Retry-After': '0' }),
    hangUp,
    reply(201, page),
  );
  expect(await createClient({ url }).pay('demo-0-1-A')).toEqual(page);
  expect(seen).toHaveLength(3);
});

test('a decision of staff without an answer is not made twice, one that was not recorded is sent again', async () => {
  const lost = await scriptService(hangUp);
  const admin = createAdmin({ url: lost.url, token: 't' });
  await expect(admin.pauseSale('demo')).rejects.toMatchObject({ code: 'no_answer' });
  expect(lost.seen).toHaveLength(1);

  const later = await scriptService(
    reply(503, { code: 'sale_change_unavailable' }, { 'Retry-After': '0' }),
    reply(200, { saleId: 'demo' }),
  );
  expect((await createAdmin({ url: later.url }).pauseSale('demo')).status).toBe(200);
  expect(later.seen).toHaveLength(2);
});

test('the token is asked for before each try', async () => {
  const { url, seen } = await scriptService(hangUp, reply(200, buildOrder()));
  let asked = 0;
  await createClient({ url: `${url}/`, token: () => `token-${(asked += 1)}` }).order('a/b');

  expect(seen.map(({ headers }) => headers.authorization)).toEqual(['Bearer token-1', 'Bearer token-2']);
  expect(seen[0]?.call).toBe('GET /v1/orders/a%2Fb');
});

test('a caller who aborts a call gets the reason of the abort, and nothing is sent any more', async () => {
  const { url, seen } = await scriptService(reply(503, { code: 'overloaded' }, { 'Retry-After': '30' }));
  const off = new AbortController();
  const reason = new Error('the page is closed');
  const placing = createClient({ url }).place(CART, { signal: off.signal });
  placing.catch(() => {});
  await waitFor('the call', () => seen.length === 1);
  off.abort(reason);
  await expect(placing).rejects.toBe(reason);
  expect(seen).toHaveLength(1);
});

test('a call without an answer is given up after the time-out of the client', async () => {
  const { url } = await scriptService(() => {});
  const call = createClient({ url, timeoutMs: 50, triesMax: 1 }).order('demo-0-1-A');
  await expect(call).rejects.toMatchObject({ code: 'no_answer' });
});

test('a purchase that waits to be stored has the seconds of its wait besides the time-out of the client', async () => {
  const { url, seen } = await scriptService(
    (...call) => void setTimeout(reply(201, buildOrder()), 500, ...call),
  );
  await createClient({ url, timeoutMs: 50 }).place(CART, { waitSeconds: 60 });
  expect(seen).toHaveLength(1);
});
