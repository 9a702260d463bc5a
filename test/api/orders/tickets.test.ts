/** Tickets over HTTP: what a good one does, every way to be refused, and 200 rivals for one. */

import { createSecretKey, generateKeyPairSync } from 'node:crypto';
import { SignJWT } from 'jose';
import { ulid } from 'ulidx';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { ticketKeys } from '../../../src/api/calls/ticket.ts';
import { signToken, createKeySet } from '../../../src/api/http/auth.ts';
import { PURCHASES_AT_ONCE } from '../../../src/limits.ts';
import { saleKeys } from '../../../src/redis/keys.ts';
import { buildSale } from '../../support/factories.ts';
import { createIssuerKey, openIssuer } from '../../support/jwks-server.ts';
import {
  acceptedOf,
  JWT_SECRET,
  orderOf,
  problemOf,
  refusalOf,
  type Reply,
  type Shopper,
} from '../../support/shopper.ts';
import { silent } from '../../support/stores.ts';
import { signTicket, TICKET_AUDIENCE } from '../../support/tickets.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
/** It demands a ticket of every order. */
let saleId: string;
let shopper: Shopper;

beforeAll(async () => {
  api = await openApi();
  const skus = [{ sku: 'mug', name: 'Enamel mug', unitPrice: 1_450, total: 1_000, limitPerUser: null }];
  ({ saleId } = await api.stores.openSale(buildSale({ skus })));
  await api.stores.redis.hset(saleKeys({ saleId, shard: 0 }).sale, 'ticket', '1');
  shopper = await api.shopper();
});

const nowSeconds = (): number => Math.floor(Date.now() / 1000);
const order = (ticket: string) => ({ saleId, items: [{ sku: 'mug', quantity: 1 }], ticket });
const own = () => ({ sub: shopper.userId, sale: saleId });

async function heldMugs(): Promise<number | undefined> {
  return (await api.stores.saleStock.read(saleId))?.skus[0]?.held;
}

/** The code and the reason; nothing is held by the refused request. */
async function refused(reply: Promise<Reply>): Promise<string> {
  const before = await heldMugs();
  const answer = await reply;
  const { code, reason } = problemOf(answer);
  expect(await heldMugs()).toBe(before);
  const why = typeof reason === 'string' ? ` ${reason}` : '';
  return `${answer.status} ${code}${why}`;
}

const refusedWith = (ticket: string): Promise<string> => refused(shopper.placeOrder(order(ticket)));

test('a ticket opens the sale, and its charges are lines of the order', async () => {
  const charges = [
    { code: 'shipping', name: 'Versand nach Köln', amount: 495 },
    { code: 'welcome', name: 'Welcome', amount: -100 },
  ];
  const ticket = await signTicket({ ...own(), charges });
  const body = { ...order(ticket), expectedTotal: 1_845, reference: 'R-7', metadata: { channel: 'app' } };
  const accepted = acceptedOf(await shopper.placeOrder(body));
  expect(accepted).toMatchObject({ total: 1_845, charges, reference: 'R-7', metadata: { channel: 'app' } });
  expect(await shopper.readOrder(accepted.orderNo)).toEqual(accepted);
  await api.store(accepted.orderNo);
  await api.forget(accepted.orderNo);
  expect(await shopper.readOrder(accepted.orderNo)).toMatchObject({
    total: 1_845,
    charges,
    reference: 'R-7',
    metadata: { channel: 'app' },
  });
});

test('a ticket that names the items and the reference of its order is good for no other', async () => {
  const bound = { ...own(), items: [{ sku: 'mug', quantity: 1 }], reference: 'R-8' };
  const its = { ...order(await signTicket(bound)), reference: 'R-8' };
  const others = [
    { ...its, items: [{ sku: 'mug', quantity: 2 }] },
    { ...its, reference: 'R-9' },
    order(await signTicket(bound)),
    { ...its, ticket: await signTicket({ ...bound, items: [...bound.items, ...bound.items] }) },
    { ...its, ticket: await signTicket({ ...bound, items: [] }) },
  ];
  for (const other of others) {
    expect(await refused(shopper.placeOrder(other))).toBe('403 ticket_invalid other_order');
  }
  acceptedOf(await shopper.placeOrder(its));
});

test('another signature over the same id is the same ticket', async () => {
  const claims = { ...own(), jti: ulid() };
  acceptedOf(await shopper.placeOrder(order(await signTicket(claims))));
  const other = await signTicket({ ...claims, exp: nowSeconds() + 600 });
  expect(await refusedWith(other)).toBe('409 ticket_used');
});

test('a ticket of many uses is good for each', async () => {
  const ticket = await signTicket({ ...own(), single_use: false });
  acceptedOf(await shopper.placeOrder(order(ticket)));
  acceptedOf(await shopper.placeOrder(order(ticket)));
});

test('the repeat of a request answers its order, whatever has become of the ticket', async () => {
  const key = { 'idempotency-key': ulid() };
  const ticket = await signTicket(own());
  const first = acceptedOf(await shopper.placeOrder(order(ticket), key));
  const expired = await signTicket({ ...own(), exp: nowSeconds() - 300 });
  const { ticket: _spent, ...bare } = order(ticket);
  for (const repeat of [order(ticket), order(expired), order('no ticket at all'), bare]) {
    const reply = await shopper.placeOrder(repeat, key);
    expect(reply.status).toBe(200);
    expect(orderOf(reply)).toEqual(first);
  }
  const another = { ...order(expired), items: [{ sku: 'mug', quantity: 2 }] };
  expect(await refused(shopper.placeOrder(another, key))).toBe('422 idempotency_key_reused');
});

test('of 200 rivals with one ticket exactly one gets an order, and each repeat the same one', async () => {
  const ticket = await signTicket(own());
  const keys = Array.from({ length: 200 }, () => ({ 'idempotency-key': ulid() }));
  const answer = (key: { 'idempotency-key': string }): Promise<Reply> =>
    shopper.placeUntilAnswered(order(ticket), key);

  const before = (await heldMugs()) ?? 0;
  const first = await Promise.all(keys.map(answer));
  const winners = first.flatMap((reply, i) => (reply.status < 300 ? [i] : []));
  expect(winners).toHaveLength(1);
  const losers = first.filter((reply) => reply.status >= 300);
  expect(new Set(losers.map(refusalOf))).toEqual(new Set(['409 ticket_used']));
  expect(await heldMugs()).toBe(before + 1);

  const second = await Promise.all(keys.map(answer));
  const [winner = -1] = winners;
  const [won, repeated] = [first[winner], second[winner]];
  if (!won || !repeated) throw new Error('a reply for each request');
  expect(repeated.status).toBe(200);
  expect(orderOf(repeated).orderNo).toBe(orderOf(won).orderNo);
  expect(second.filter((reply) => reply.status === 409)).toHaveLength(199);
  expect(await heldMugs()).toBe(before + 1);
});

const header = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const unsigned = (): string => {
  const claims = { ...own(), aud: 'holdfast', jti: ulid(), exp: nowSeconds() + 300 };
  return `${header({ alg: 'none', typ: 'holdfast-ticket+jwt' })}.${header(claims)}.`;
};
const byAnotherKind = (): Promise<string> =>
  new SignJWT({ ...own(), jti: ulid() })
    .setProtectedHeader({ alg: 'RS256', typ: 'holdfast-ticket+jwt' })
    .setAudience('holdfast')
    .setExpirationTime('5m')
    .sign(generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey);
const withStrangeHeader = (): Promise<string> =>
  new SignJWT({ ...own(), jti: ulid() })
    .setProtectedHeader({ alg: 'HS512', typ: 'holdfast-ticket+jwt' })
    .setAudience('holdfast')
    .setExpirationTime('5m')
    .sign(createSecretKey(Buffer.from(JWT_SECRET)));

const FAULTY: Record<string, [reason: string, make: () => string | Promise<string>]> = {
  'for another user': ['other_user', () => signTicket({ ...own(), sub: 'somebody-else' })],
  'for another sale': ['other_sale', () => signTicket({ ...own(), sale: 'winter' })],
  'that has expired': ['expired', () => signTicket({ ...own(), exp: nowSeconds() - 60 })],
  'of tomorrow': ['not_yet_valid', () => signTicket({ ...own(), nbf: nowSeconds() + 120 })],
  'issued in the future': ['not_yet_valid', () => signTicket({ ...own(), iat: nowSeconds() + 120 })],
  'good for two hours': ['malformed', () => signTicket({ ...own(), exp: nowSeconds() + 7_200 })],
  'good for ever': ['malformed', () => signTicket({ ...own(), exp: 1e300 })],
  'signed with another secret': ['forged', () => signTicket(own(), { secret: `${JWT_SECRET}!` })],
  'without a signature': ['forged', unsigned],
  'signed with a key of another kind': ['forged', byAnotherKind],
  'signed with another algorithm': ['forged', withStrangeHeader],
  'for another audience': ['forged', () => signTicket({ ...own(), aud: 'another-service' })],
  'that is an access token': ['malformed', () => signToken(JWT_SECRET, shopper.userId, '5m')],
  'of another type': ['malformed', () => signTicket(own(), { typ: 'JWT' })],
  'without an id': ['malformed', () => signTicket({ ...own(), jti: '' })],
  'with a long id': ['malformed', () => signTicket({ ...own(), jti: 'x'.repeat(129) })],
  'that is no JWS': ['malformed', () => 'x.y.z'],
  'that is one word': ['malformed', () => 'ticket'],
  'with eleven charges': [
    'malformed',
    () =>
      signTicket({
        ...own(),
        charges: Array.from({ length: 11 }, () => ({ code: 'c', name: 'C', amount: 1 })),
      }),
  ],
  'with a part of a cent': [
    'malformed',
    () => signTicket({ ...own(), charges: [{ code: 'c', name: 'C', amount: 0.5 }] }),
  ],
};

test.each(Object.entries(FAULTY))('a ticket %s is refused', async (_what, [reason, make]) => {
  expect(await refusedWith(await make())).toBe(`403 ticket_invalid ${reason}`);
});

test('a ticket is checked also where the sale demands none', async () => {
  const { saleId: open } = await api.stores.openSale(buildSale());
  const ticket = await signTicket({ ...own(), sale: open, exp: nowSeconds() - 60 });
  const body = { saleId: open, items: [{ sku: 'mug', quantity: 1 }], ticket };
  expect(await refused(shopper.placeOrder(body))).toBe('403 ticket_invalid expired');
});

test.each([
  ['an empty ticket', { ticket: '' }],
  ['a huge ticket', { ticket: 'x'.repeat(8_193) }],
  ['an expected total below nothing', { expectedTotal: -1 }],
  ['a part of a cent', { expectedTotal: 14.5 }],
  ['a reference of two lines', { reference: 'a\nb' }],
  ['an empty reference', { reference: '' }],
  ['metadata under one of our names', { metadata: { holdfast_order_no: 'x' } }],
  ['charges in the body', { charges: [{ code: 'c', name: 'C', amount: -1 }] }],
])('%s is refused as it stands', async (_what, part) => {
  const body = { ...order(await signTicket(own())), ...part };
  expect(await refused(shopper.placeOrder(body))).toBe('400 invalid_request');
});

test('a key stands for the reference and the metadata too', async () => {
  const key = { 'idempotency-key': ulid() };
  const ticket = await signTicket({ ...own(), single_use: false });
  const metadata = { a: '1', b: '2' };
  const body = { ...order(ticket), reference: 'R-1', metadata };
  const first = acceptedOf(await shopper.placeOrder(body, key));
  const reordered = { ...body, metadata: { b: '2', a: '1' } };
  expect(orderOf(await shopper.placeOrder(reordered, key)).orderNo).toBe(first.orderNo);
  for (const other of [{ reference: 'R-2' }, { metadata: { a: '1' } }]) {
    const reply = shopper.placeOrder({ ...body, ...other }, key);
    expect(await refused(reply)).toBe('422 idempotency_key_reused');
  }
});

test('tickets by unknown keys leave the places to other purchases while the key server hangs', async () => {
  const [known, stranger] = await Promise.all([createIssuerKey('known'), createIssuerKey('stranger')]);
  const issuer = await openIssuer(known);
  onTestFinished(() => issuer.close());
  const keys = createKeySet(issuer.url, silent, { attemptEveryMs: 0, attemptTimeoutMs: 600_000 });
  onTestFinished(() => keys.stop());
  await keys.begun;
  issuer.freeze();
  const app = await api.withParts({
    tickets: {
      keys: ticketKeys({ secret: undefined, keys }),
      issuer: undefined,
      audience: TICKET_AUDIENCE,
    },
  });
  const forger = await app.shopper();
  const exp = nowSeconds() + 300;
  const forged = { sub: forger.userId, sale: saleId, aud: TICKET_AUDIENCE, jti: 'forged', exp };
  const ticket = await stranger.sign(forged, { typ: 'holdfast-ticket+jwt' });

  // As many as there are places for purchases, and each ends though the reading goes on.
  const answers = await Promise.all(
    Array.from({ length: PURCHASES_AT_ONCE }, () => forger.placeOrder(order(ticket))),
  );
  expect(new Set(answers.map(refusalOf))).toEqual(new Set(['503 outcome_unknown']));
  const good = { sub: shopper.userId, sale: saleId, aud: TICKET_AUDIENCE, jti: 'good', exp };
  const honest = order(await known.sign(good, { typ: 'holdfast-ticket+jwt' }));
  acceptedOf(await (await app.shopper(shopper.userId)).placeOrder(honest));
});
