/** The sandbox keeps the contract of docs/provider-openapi.json: each call, each answer, each notice. */

import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect, onTestFinished, test, vi } from 'vitest';
import { z } from 'zod';
import { buildSessionRequest, call, connect, pay, takePayment, withWorld } from './sandbox-world.ts';

const text = readFileSync(new URL('../../docs/provider-openapi.json', import.meta.url), 'utf8');
const anyObject = z.record(z.string(), z.unknown());
const body = z.object({ content: z.record(z.string(), z.object({ schema: anyObject })) });
const operation = z.object({
  parameters: z.array(z.looseObject({ name: z.string(), in: z.string() })).default([]),
  responses: z.record(z.string(), body),
});
const contract = z
  .object({
    paths: z.record(z.string(), z.record(z.string(), operation)),
    components: z.object({ schemas: z.record(z.string(), z.unknown()) }),
  })
  .parse(JSON.parse(text));
// Formats and OpenAPI's own words are notes to readers; the patterns beside them decide.
const ajv = new Ajv2020({ strict: false, validateFormats: false }).addSchema(
  anyObject.parse(JSON.parse(text)),
  'api',
);

type Answer = Awaited<ReturnType<typeof call>>;

/** @throws when the contract does not promise this answer to this call */
function expectPromised(
  method: 'get' | 'post',
  path: string,
  { status, type, body: answered }: Answer,
): void {
  const responses = contract.paths[path]?.[method]?.responses ?? {};
  const promised = responses[status] ?? responses[`${Math.floor(status / 100)}XX`];
  const schema = promised?.content[type.split(';')[0] ?? '']?.schema;
  expect(schema, `${method} ${path}: ${status} ${type}`).toBeDefined();
  const inApi = JSON.stringify(schema).replaceAll('"#/', '"api#/');
  const isValid = ajv.validate(anyObject.parse(JSON.parse(inApi)), answered);
  expect(isValid, `${JSON.stringify(answered)}: ${ajv.errorsText()}`).toBe(true);
}

const keyed = (key: string) => ({ headers: { 'idempotency-key': key } });
const SESSION = {
  reference: 'summer-0-1-01JD0000000000000000000000',
  amount: 12_345,
  currency: 'SGD',
  signed_order: 'eyJ.eyJ.c2ln',
  deployment: 'holdfast',
  expires_at: new Date(Date.now() + 3_600_000).toISOString(),
};
const idOf = ({ body: answered }: Answer) => z.object({ id: z.string() }).parse(answered).id;

test('a session that is opened, opened again, refused, paid, voided', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const open = (key: string, changes: object = {}) =>
      call(sandbox, 'POST', '/v1/payment_sessions', { ...keyed(key), body: { ...SESSION, ...changes } });
    const close = (id: string) => call(sandbox, 'POST', `/v1/payment_sessions/${id}/void`);
    const [opened, again, other, wrong] = [
      await open('k1'),
      await open('k1'),
      await open('k1', { amount: 1 }),
      await open('k2', { amount: 0 }),
    ];

    expect([opened.status, again.status, other.status, wrong.status]).toEqual([201, 200, 422, 400]);
    for (const answer of [opened, again, other, wrong])
      expectPromised('post', '/v1/payment_sessions', answer);
    const paid = await open('k3');
    await pay(sandbox, idOf(paid));
    const voids = [await close(idOf(opened)), await close(idOf(opened)), await close(idOf(paid))];
    expect(voids.map(({ status }) => status)).toEqual([200, 200, 409]);
    for (const answer of voids) expectPromised('post', '/v1/payment_sessions/{id}/void', answer);
  }));

test('money that is listed, refunded, refused, disputed', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const id = await takePayment(sandbox);
    const refund = (key: string, amount: number, currency = 'SGD') =>
      call(sandbox, 'POST', '/v1/refunds', { ...keyed(key), body: { payment_id: id, amount, currency } });
    const refunds = [
      await refund('r1', 100),
      await refund('r1', 100),
      await refund('r1', 200),
      await refund('r2', 1_000_000),
      await refund('r3', 100, 'EUR'),
    ];

    expect(refunds.map(({ status }) => status)).toEqual([201, 200, 422, 409, 409]);
    for (const answer of refunds) expectPromised('post', '/v1/refunds', answer);
    await call(sandbox, 'POST', `/v1/test/payments/${id}/dispute`, { body: {} });
    expectPromised('get', '/v1/reversals', await call(sandbox, 'GET', `/v1/reversals?payment_id=${id}`));
    const page = await call(sandbox, 'GET', '/v1/payments?limit=1&cursor=0&since=2026-01-01T00:00:00Z');
    expectPromised('get', '/v1/payments', page);
  }));

test('calls without the key, and too many', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const headers = { authorization: 'Bearer wrong' };
    expectPromised('get', '/v1/payments', await call(sandbox, 'GET', '/v1/payments', { headers }));
    await call(sandbox, 'PUT', '/v1/test/mischief', { body: { rate_limited: 1 } });
    const limited = await call(sandbox, 'GET', '/v1/payments');
    expect(limited.status).toBe(429);
    expectPromised('get', '/v1/payments', limited);
  }));

test('each notice is one that the contract names', () =>
  withWorld(async ({ startSandbox, receiver }) => {
    const sandbox = await startSandbox();
    const id = await takePayment(sandbox);
    const refund = { payment_id: id, amount: 100, currency: 'SGD' };
    await call(sandbox, 'POST', '/v1/refunds', { ...keyed('r1'), body: refund });
    const dispute = await call(sandbox, 'POST', `/v1/test/payments/${id}/dispute`, { body: {} });
    await call(sandbox, 'POST', `/v1/test/disputes/${idOf(dispute)}/close`, { body: { won: true } });
    const session = await connect(sandbox).openSession(buildSessionRequest({ sessionId: 'session-2' }));
    await call(sandbox, 'POST', `/v1/payment_sessions/${session.providerSessionId}/fail`);

    const types: string[] = [];
    for (let i = 0; i < 5; i += 1) {
      const notice = z.looseObject({ type: z.string() }).parse(JSON.parse((await receiver.next()).body));
      const isValid = ajv.validate({ $ref: 'api#/components/schemas/Notice' }, notice);
      expect(isValid, `${JSON.stringify(notice)}: ${ajv.errorsText()}`).toBe(true);
      types.push(notice.type);
    }
    expect(types.toSorted()).toEqual([
      'dispute.closed',
      'dispute.opened',
      'payment.failed',
      'payment.succeeded',
      'refund.updated',
    ]);
  }));

test('the adapter calls what the contract names, and no other', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const sent = vi.spyOn(globalThis, 'fetch');
    onTestFinished(() => sent.mockRestore());
    const provider = connect(sandbox);
    const { providerSessionId } = await provider.openSession(buildSessionRequest());
    await provider.voidSession(providerSessionId);
    for await (const _ of provider.listPayments()) break;
    await provider.listReversals('unknown').catch(() => {});
    const refund = { refundKey: 'r', providerPaymentId: 'unknown', amount: 1, currency: 'SGD' };
    await provider.refund(refund).catch(() => {});

    const called = sent.mock.calls.map(([address, init]) => {
      const { pathname } = new URL(address instanceof Request ? address.url : address);
      return `${init?.method} ${pathname.replace(providerSessionId, '{id}')}`;
    });
    const named = Object.entries(contract.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(called.toSorted()).toEqual(named.toSorted());
  }));
