/** The verified path over HTTP: a challenge, its solution, the ticket, and the order that spends it. */

import { createSecretKey, hash } from 'node:crypto';
import { solveChallenge, type Challenge } from 'altcha-lib';
import { deriveKey } from 'altcha-lib/algorithms/scrypt';
import { decodeJwt, decodeProtectedHeader, SignJWT } from 'jose';
import { ulid } from 'ulidx';
import { afterEach, beforeAll, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { createVerification } from '../../../src/api/calls/verification.ts';
import { saleKeys } from '../../../src/redis/keys.ts';
import type { Sale } from '../../../src/sales/sale.ts';
import { createTestClock } from '../../support/clock.ts';
import { buildSale } from '../../support/factories.ts';
import {
  acceptedOf,
  JWT_SECRET,
  orderOf,
  problemOf,
  refusalOf,
  send,
  type Reply,
  type Shopper,
} from '../../support/shopper.ts';
import { signTicket, TICKET_AUDIENCE } from '../../support/tickets.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, type TestApi } from '../open-api.ts';

const MINUTE_MS = 60_000;
const verification = { kind: 'proof_of_work', costKib: 64, aheadMs: 10 * MINUTE_MS } as const;

let api: TestApi;
let saleId: string;
let shopper: Shopper;
beforeAll(async () => {
  api = await openApi();
  saleId = await open();
  shopper = await api.shopper();
});
afterEach(() => void vi.useRealTimers());

async function open(rules: Partial<Sale> = {}): Promise<string> {
  return (await api.stores.openSale(buildSale({ verification, ...rules }))).saleId;
}

const challengeSchema = z.custom<Challenge>();
const ticketSchema = z.object({ ticket: z.string(), expiresAt: z.string() });

const ask = (sale = saleId, by = shopper): Promise<Reply> => by.call('POST', `/v1/sales/${sale}/challenge`);
const answer = (payload: string, sale = saleId, by = shopper): Promise<Reply> =>
  by.call('POST', `/v1/sales/${sale}/ticket`, { body: { payload } });
const order = (ticket: string, sale = saleId) => ({
  saleId: sale,
  items: [{ sku: 'mug', quantity: 1 }],
  ticket,
});
const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64');

async function solve(reply: Reply): Promise<{ challenge: Challenge; solution: object }> {
  expect(reply.status).toBe(200);
  const challenge = challengeSchema.parse(reply.body);
  const solution = await solveChallenge({ challenge, deriveKey });
  if (!solution) throw new Error('no solution');
  return { challenge, solution };
}

/** A challenge, solved. */
const work = async (sale = saleId, by = shopper): Promise<string> => encode(await solve(await ask(sale, by)));
const ticketOf = (reply: Reply): string => ticketSchema.parse(reply.body).ticket;
const reasonOf = (reply: Reply): string => `${refusalOf(reply)} ${String(problemOf(reply)['reason'])}`;

test('a sale that asks for work refuses an order without a ticket, and takes one that was worked for, once', async () => {
  const bare = { saleId, items: [{ sku: 'mug', quantity: 1 }] };
  expect(refusalOf(await shopper.placeOrder(bare))).toBe('403 ticket_required');
  expect((await send(`${api.url}/v1/sales/${saleId}`, 'GET')).body).toMatchObject({ verification });

  const ticket = ticketOf(await answer(await work()));
  const { orderNo } = acceptedOf(await shopper.placeOrder(order(ticket)));

  const again = await shopper.placeOrder(order(ticket));
  expect([refusalOf(again), problemOf(again)['orderNo']]).toEqual(['409 ticket_used', orderNo]);
});

test('the same solution gets the same ticket again, before and after it was spent', async () => {
  const payload = await work();
  const [first, second] = [await answer(payload), await answer(payload)];
  expect(second.body).toEqual(first.body);
  const key = { 'idempotency-key': ulid() };
  const placed = acceptedOf(await shopper.placeOrder(order(ticketOf(first)), key));

  const third = await answer(payload);
  expect(third.body).toEqual(first.body);
  expect(orderOf(await shopper.placeOrder(order(ticketOf(third)), key)).orderNo).toBe(placed.orderNo);
  expect(refusalOf(await shopper.placeOrder(order(ticketOf(third))))).toBe('409 ticket_used');
});

test('another solution of one challenge is worth the same ticket, so that a challenge buys once', async () => {
  const { challenge, solution } = await solve(await ask());
  const { counter } = z.object({ counter: z.int() }).parse(solution);
  const another = await solveChallenge({ challenge, deriveKey, counterStart: counter + 1 });
  if (!another) throw new Error('no solution');
  const first = ticketOf(await answer(encode({ challenge, solution })));
  expect(ticketOf(await answer(encode({ challenge, solution: another })))).toBe(first);
});

test("a challenge names its user, its sale and an id, and is spent with the order in the sale's slot", async () => {
  const sale = await open();
  const { challenge, solution } = await solve(await ask(sale));
  const { data } = challenge.parameters;
  expect(data).toMatchObject({ user: hash('sha256', shopper.userId, 'base64url'), sale });
  expect((await solve(await ask(sale))).challenge.parameters.data?.['id']).not.toBe(data?.['id']);
  const ticket = ticketOf(await answer(encode({ challenge, solution }), sale));
  expect(decodeJwt(ticket)).toMatchObject({ sub: shopper.userId, sale, jti: data?.['id'] });
  const readSpent = () => api.stores.redis.keys(saleKeys({ saleId: sale, shard: 0 }).ticket('*'));
  expect(await readSpent()).toEqual([]);

  const { orderNo } = acceptedOf(await shopper.placeOrder(order(ticket, sale)));
  const [spent = '', ...others] = await readSpent();
  expect([await api.stores.redis.hget(spent, 'order_no'), others]).toEqual([orderNo, []]);
});

test("the shop's own ticket counts as well", async () => {
  const ticket = await signTicket({ sub: shopper.userId, sale: saleId });
  acceptedOf(await shopper.placeOrder(order(ticket)));
});

test('where the shop has come to demand its own ticket, one that was worked for counts no more', async () => {
  const sale = await open();
  const ticket = ticketOf(await answer(await work(sale), sale));
  await api.stores.redis.hset(saleKeys({ saleId: sale, shard: 0 }).sale, 'ticket', '1');
  expect(refusalOf(await shopper.placeOrder(order(ticket, sale)))).toBe('403 ticket_required');
  acceptedOf(await shopper.placeOrder(order(await signTicket({ sub: shopper.userId, sale }), sale)));
});

test('the answer of another user, of another sale, without work or with a changed challenge is refused', async () => {
  const other = await api.shopper();
  const payload = await work();
  const { challenge, solution } = await solve(await ask());
  const { parameters, signature } = challenge;
  const easier = { parameters: { ...parameters, keyPrefix: '0' }, signature };
  const forged = { ...challenge, signature: 'ab'.repeat(32) };
  const own = await solve(await ask(saleId, other));
  const stolen = {
    parameters: { ...own.challenge.parameters, data: parameters.data },
    signature: own.challenge.signature,
  };
  const short = { parameters: { ...parameters, cost: 1 }, signature };

  const replies = [
    await answer(payload, saleId, other),
    await answer(payload, await open()),
    await answer(encode({ challenge, solution: { counter: 7, derivedKey: '00'.repeat(32) } })),
    await answer(encode({ challenge, solution: { ...solution, derivedKey: 'ff'.repeat(32) } })),
    await answer(encode({ challenge: forged, solution })),
    await answer(encode({ challenge: stolen, solution: own.solution })),
    await answer(encode({ challenge: short, solution })),
    await answer(encode({ challenge: easier, solution })),
    await answer(encode({ challenge })),
    await answer('no base64 of JSON'),
  ];
  expect(replies.map(reasonOf)).toEqual(
    [
      'other_user',
      'other_sale',
      'unsolved',
      'unsolved',
      'forged',
      'forged',
      'forged',
      'malformed',
      'malformed',
      'malformed',
    ].map((reason) => `403 challenge_invalid ${reason}`),
  );
});

test('a challenge is worth nothing after five minutes, and its ticket nothing ten minutes on', async () => {
  const [late, payload] = [await work(), await work()];
  const ticket = ticketOf(await answer(payload));

  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 5 * MINUTE_MS + 1_000 });
  expect(reasonOf(await answer(late))).toBe('403 challenge_invalid expired');
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 6 * MINUTE_MS });
  expect(reasonOf(await shopper.placeOrder(order(ticket)))).toBe('403 ticket_invalid expired');
});

test('a sale gives challenges from so long before its opening on, whose tickets are good at the opening', async () => {
  const soon = await open({ opensAtMs: Date.now() + 9 * MINUTE_MS });
  const { ticket, expiresAt } = ticketSchema.parse((await answer(await work(soon), soon)).body);
  expect(Date.parse(expiresAt)).toBeGreaterThan(Date.now() + 18 * MINUTE_MS);
  expect(refusalOf(await shopper.placeOrder(order(ticket, soon)))).toBe('403 sale_not_open_yet');

  const later = await open({ opensAtMs: Date.now() + 30 * MINUTE_MS });
  const early = await ask(later);
  expect(refusalOf(early)).toBe('403 sale_not_open_yet');
  expect(Number(early.headers.get('retry-after'))).toBeGreaterThan(19 * 60);
  expect(refusalOf(await answer('x', later))).toBe('403 sale_not_open_yet');
});

test('a sale that asks for no work gives no challenge, and an unknown one is not found', async () => {
  const { saleId: plain } = await api.stores.openSale(buildSale());
  expect(refusalOf(await ask(plain))).toBe('409 verification_not_asked');
  expect(refusalOf(await answer('x', plain))).toBe('409 verification_not_asked');
  expect(refusalOf(await ask('unknown'))).toBe('404 sale_not_found');
  const over = await open({ closesAtMs: Date.now() + MINUTE_MS });
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * MINUTE_MS });
  expect(refusalOf(await ask(over))).toBe('403 sale_closed');
});

test('the answers of one user are checked one at a time', async () => {
  const [first, second] = [await work(), await work()];

  const replies = await Promise.all([answer(first), answer(second), answer(second)]);

  expect(replies.filter(({ status }) => status === 200)).toHaveLength(1);
  expect(replies.filter(({ status }) => status === 503).map(refusalOf)).toEqual([
    '503 overloaded',
    '503 overloaded',
  ]);
  expect(ticketOf(await answer(second))).toBeTruthy();
});

/** At most so many of the costliest checks are done in two seconds, two at a time: each takes 46 ms. */
const CHECKED_WITHIN_TWO_SECONDS = 2 + (2 * 2_000) / 46;

test('answers that could not be checked within two seconds are refused at once, also at the highest cost', async () => {
  const sale = await open({ verification: { ...verification, costKib: 16_384 } });
  let letGo = (): void => {};
  const gate = new Promise<void>((resolve) => (letGo = resolve));
  const app = await api.withParts({
    // It stands still, so that none is refused because it has waited.
    clock: createTestClock(),
    verification: {
      ...createVerification([JWT_SECRET], TICKET_AUDIENCE),
      check: () => gate.then(() => ({ kind: 'refused', fault: 'unsolved' }) as const),
    },
  });
  await send(`${app.url}/v1/sales/${sale}`, 'GET');
  const shoppers = await Promise.all(Array.from({ length: 120 }, () => app.shopper()));
  const refusals: string[] = [];
  const answers = shoppers.map(async (by) => refusals.push(refusalOf(await answer('x', sale, by))));

  await waitFor('the refusals', () => refusals.length >= 120 - CHECKED_WITHIN_TWO_SECONDS);
  expect(new Set(refusals)).toEqual(new Set(['503 overloaded']));
  letGo();
  await Promise.all(answers);
  expect(refusals).toContain('403 challenge_invalid');
});

test('while secrets are rotated, what the secret before has signed is good still', async () => {
  const payload = await work();
  const ticket = ticketOf(await answer(await work()));
  const app = await api.withParts({
    verification: createVerification([`${JWT_SECRET}-of-today`, JWT_SECRET], TICKET_AUDIENCE),
  });
  const there = await app.shopper(shopper.userId);
  acceptedOf(await there.placeOrder(order(ticket)));
  const second = ticketOf(await answer(payload, saleId, there));
  expect(decodeProtectedHeader(second).kid).toBe(decodeProtectedHeader(ticket).kid);
  acceptedOf(await there.placeOrder(order(second)));
});

// Neither side's key stands for the other's.

test('a ticket of our own kind is taken from our own key alone', async () => {
  const ours = ticketOf(await answer(await work()));
  const { kid = '', alg } = decodeProtectedHeader(ours);
  const claims = { sub: shopper.userId, sale: saleId, jti: ulid(), single_use: true };
  const sign = (header: { alg: string; kid?: string }, iss: string) =>
    new SignJWT(claims)
      .setProtectedHeader({ ...header, typ: 'holdfast-ticket+jwt' })
      .setIssuer(iss)
      .setAudience('holdfast')
      .setExpirationTime('5m')
      .sign(createSecretKey(Buffer.from(JWT_SECRET)));
  expect([kid.startsWith('holdfast:'), alg]).toEqual([true, 'HS256']);
  const forged = [
    // By the shop's secret, under the name of our key, or as our issuer.
    await sign({ alg: 'HS256', kid }, 'holdfast:proof-of-work'),
    await sign({ alg: 'HS256' }, 'holdfast:proof-of-work'),
    await sign({ alg: 'HS256', kid: 'holdfast:other' }, 'shop'),
    await sign({ alg: 'HS512', kid }, 'holdfast:proof-of-work'),
    // Ours, under no name, or another's.
    ...[
      { alg: 'HS256', typ: 'holdfast-ticket+jwt' },
      { alg: 'HS256', typ: 'holdfast-ticket+jwt', kid: 'shop' },
    ].map((header) => ours.replace(/^[^.]+/, Buffer.from(JSON.stringify(header)).toString('base64url'))),
  ];
  for (const ticket of forged)
    expect(reasonOf(await shopper.placeOrder(order(ticket)))).toBe('403 ticket_invalid forged');
});
