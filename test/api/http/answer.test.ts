/** What a handler returns becomes an answer in one place: a reply, or a refusal by its kind. */

import type { Server } from 'node:http';
import Koa from 'koa';
import { pino } from 'pino';
import { afterEach, expect, test } from 'vitest';
import { z } from 'zod';
import { answering, reply } from '../../../src/api/http/answer.ts';
import type { RequestState } from '../../../src/api/http/auth.ts';
import { problemResponder } from '../../../src/api/http/problem.ts';
import type { BodyState } from '../../../src/api/http/request.ts';

type Result =
  | { kind: 'short'; sku: string; available: number; held: number; openOrders: []; secret: string }
  | { kind: 'gone' };

let server: Server | undefined;
afterEach(() => server?.close());

/** Answers each request with a call whose handler does this. */
async function ask(handler: () => Promise<ReturnType<typeof reply<{ units: number }>> | Result>) {
  const { handle, refuses } = answering({
    id: 'count',
    does: 'Counts',
    params: { schema: z.object({ saleId: z.string().regex(/^[a-z]+$/) }), otherwise: 'sale_not_found' },
    query: z.strictObject({ by: z.coerce.number().int().default(1) }),
    replies: { 200: z.strictObject({ units: z.int() }) },
    away: 'sale_unavailable',
    refuses: { short: 'sold_out', gone: 'called_off' },
    answer: (_: undefined, { query }) => (query.by === 0 ? Promise.reject(new TypeError('ours')) : handler()),
  });
  const app = new Koa<RequestState & BodyState, { params: Record<string, string> }>()
    .use(problemResponder(pino({ level: 'silent' }), () => {}))
    .use((ctx) => {
      ctx.params = { saleId: ctx.path.slice(1) };
      return handle(undefined, ctx);
    });
  await new Promise<void>((resolve) => (server = app.listen(0, '127.0.0.1', resolve)));
  const address = server?.address();
  const port = typeof address === 'object' ? address?.port : undefined;
  return {
    refuses,
    async get(path: string) {
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      return { status: response.status, headers: response.headers, body: await response.json() };
    },
  };
}

test('a handler that replies has its status, headers and body sent', async () => {
  const { get } = await ask(async () => reply({ units: 3 }, 202, { Location: '/there' }));

  const answer = await get('/summer');

  expect(answer).toMatchObject({ status: 202, body: { units: 3 } });
  expect(answer.headers.get('location')).toBe('/there');
});

test('a handler that returns an outcome has it refused by its kind, with the members of the problem alone', async () => {
  const short = { sku: 'lamp', available: 1, held: 2, openOrders: [] as [], secret: 'x' };
  const { get } = await ask(async () => ({ kind: 'short', ...short }));

  const { status, body } = await get('/summer');

  expect(status).toBe(409);
  expect(body).toEqual({
    type: '/problems/sold_out',
    title: 'Sold out',
    status: 409,
    code: 'sold_out',
    detail: 'There are not enough units left.',
    sku: 'lamp',
    available: 1,
    held: 2,
    openOrders: [],
  });
});

test('a handler whose store is away answers with the code of the call, and says when to come back', async () => {
  const { get } = await ask(() => Promise.reject(new Error('no connection')));

  const answer = await get('/summer');

  expect(answer).toMatchObject({ status: 503, body: { code: 'sale_unavailable' } });
  expect(answer.headers.get('retry-after')).toBe('1');
});

test('a handler with a fault of ours does not claim that a store is away', async () => {
  const { get } = await ask(async () => reply({ units: 3 }));

  expect(await get('/summer?by=0')).toMatchObject({ status: 500, body: { code: 'internal_error' } });
});

test('a path or a query that cannot be is refused before the handler is asked', async () => {
  const { get } = await ask(() => Promise.reject(new Error('it was asked')));

  expect(await get('/SUMMER')).toMatchObject({ status: 404, body: { code: 'sale_not_found' } });
  expect(await get('/summer?by=all')).toMatchObject({
    status: 400,
    body: { code: 'invalid_request', faults: [{ path: 'by' }] },
  });
});

test('a call that may answer in several ways says each code once', async () => {
  const { refuses } = await ask(async () => reply({ units: 3 }));

  expect(refuses).toEqual(['sale_not_found', 'sold_out', 'called_off', 'sale_unavailable']);
});
