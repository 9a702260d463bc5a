/** How often one user, and one address where the sale says so, may try to buy within a minute. */

import { beforeAll, expect, test, vi } from 'vitest';
import {
  createPurchaseLimits,
  LIMIT_WINDOW_MS,
  REMEMBERED_MAX,
} from '../../../src/api/calls/purchase-limits.ts';
import { KEPT_FRESH_MS } from '../../../src/api/calls/sale-views.ts';
import { saleKeys } from '../../../src/redis/keys.ts';
import type { Sale } from '../../../src/sales/sale.ts';
import { createTestClock } from '../../support/clock.ts';
import { buildSale } from '../../support/factories.ts';
import type { HttpApp } from '../../support/http-app.ts';
import { acceptedOf, orderOf, refusalOf, send, type Reply, type Shopper } from '../../support/shopper.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, type TestApi } from '../open-api.ts';

const LIMIT = 3;

let api: TestApi;
let app: HttpApp;
/** The clock of the minutes. */
const clock = createTestClock();
beforeAll(async () => {
  api = await openApi();
  app = await api.withParts({
    userPurchasesPerMinute: LIMIT,
    trustedProxyHops: 1,
    clock,
  });
});

const MUG = { sku: 'mug', name: 'Mug', unitPrice: 1_450, total: 100, limitPerUser: null };

/** Known to the process, as it is once the first has looked or bought. */
async function openSale(rules: Partial<Sale> = {}): Promise<string> {
  const { saleId } = await api.stores.openSale(buildSale({ skus: [MUG], ...rules }));
  await send(`${app.url}/v1/sales/${saleId}`, 'GET');
  return saleId;
}

function place(shopper: Shopper, saleId: string, headers: Record<string, string> = {}): Promise<Reply> {
  return shopper.placeOrder({ saleId, items: [{ sku: 'mug', quantity: 1 }] }, headers);
}

async function placeTimes(times: number, one: () => Promise<Reply>): Promise<number[]> {
  const statuses: number[] = [];
  for (let i = 0; i < times; i += 1) statuses.push((await one()).status);
  return statuses;
}

const limitsOf = ({ headers }: Reply) => [
  headers.get('ratelimit'),
  headers.get('ratelimit-policy'),
  headers.get('retry-after'),
];

test('a user over the limit is refused until the minute is over, and others are not', async () => {
  const [saleId, shopper, other] = [await openSale(), await app.shopper(), await app.shopper()];
  expect(await placeTimes(LIMIT, () => place(shopper, saleId))).toEqual([202, 202, 202]);
  clock.pass(20_000);

  const refused = await place(shopper, saleId);

  expect(refusalOf(refused)).toBe('429 too_many_purchases');
  expect(limitsOf(refused)).toEqual(['"user";r=0;t=40', '"user";q=3;w=60', '40']);
  expect((await place(other, saleId)).status).toBe(202);
  clock.pass(LIMIT_WINDOW_MS - 20_000);
  expect((await place(shopper, saleId)).status).toBe(202);
});

test('each answer says what is left of the limit, a refusal too', async () => {
  const [saleId, shopper] = [await openSale({ skus: [{ ...MUG, total: 1 }] }), await app.shopper()];

  const replies = [
    await place(shopper, saleId),
    await place(shopper, saleId),
    await place(shopper, 'no-sale'),
  ];

  expect(replies.map(({ status }) => status)).toEqual([202, 409, 404]);
  expect(replies.map(({ headers }) => headers.get('ratelimit'))).toEqual([
    '"user";r=2;t=60',
    '"user";r=1;t=60',
    '"user";r=0;t=60',
  ]);
});

test('what never comes to the sale is not counted', async () => {
  const [saleId, shopper] = [await openSale(), await app.shopper()];

  const faults = await placeTimes(10, () => shopper.placeOrder({ saleId, items: [] }));
  const reply = await place(shopper, saleId);

  expect(new Set(faults)).toEqual(new Set([400]));
  expect(reply.headers.get('ratelimit')).toBe('"user";r=2;t=60');
});

test('repeats of an accepted order are answered and not counted, within the limit and over it', async () => {
  const [saleId, shopper] = [await openSale(), await app.shopper()];
  const key = { 'idempotency-key': crypto.randomUUID() };
  const { orderNo } = acceptedOf(await place(shopper, saleId, key));

  const repeats = await placeTimes(10, () => place(shopper, saleId, key));
  const attempts = await placeTimes(3, () => place(shopper, saleId));
  const late = await placeTimes(10, () => place(shopper, saleId, key));
  const repeat = await place(shopper, saleId, key);

  expect(new Set([...repeats, ...late])).toEqual(new Set([200]));
  expect(attempts).toEqual([202, 202, 429]);
  expect(orderOf(repeat).orderNo).toBe(orderNo);
  const other = await shopper.placeOrder({ saleId, items: [{ sku: 'mug', quantity: 2 }] }, key);
  expect(refusalOf(other)).toBe('422 idempotency_key_reused');
});

test('beyond the limit as many attempts again are looked up, and none after them comes to Redis', async () => {
  const { reservations } = api.stores;
  const [reserve, findRepeat] = [vi.fn(reservations.reserve), vi.fn(reservations.findRepeat)];
  const counted = await api.withParts({
    userPurchasesPerMinute: LIMIT,
    reservations: { ...reservations, reserve, findRepeat },
    clock,
  });
  const [saleId, shopper] = [await openSale(), await counted.shopper()];
  const key = { 'idempotency-key': crypto.randomUUID() };
  await place(shopper, saleId, key);

  const refused = await placeTimes(12, () => place(shopper, saleId));

  expect(refused.filter((status) => status === 429)).toHaveLength(10);
  expect([reserve.mock.calls.length, findRepeat.mock.calls.length]).toEqual([LIMIT, LIMIT]);
  expect(refusalOf(await place(shopper, saleId, key))).toBe('429 too_many_purchases');
  clock.pass(LIMIT_WINDOW_MS);
  expect((await place(shopper, saleId, key)).status).toBe(200);
});

const from = (address: string) => ({ 'x-forwarded-for': address });

test('of a sale that says so the users of one address share its limit, and the others have theirs', async () => {
  const saleId = await openSale({ addressPurchasesPerMinute: 2 });
  const office = from('192.0.2.7');
  const [jane, joe, jim] = [await app.shopper(), await app.shopper(), await app.shopper()];
  const first = await place(jane, saleId, office);
  await place(joe, saleId, office);

  const refused = await place(jim, saleId, office);

  expect(limitsOf(first).slice(0, 2)).toEqual([
    '"user";r=2;t=60, "address";r=1;t=60',
    '"user";q=3;w=60, "address";q=2;w=60',
  ]);
  expect(refusalOf(refused)).toBe('429 too_many_purchases');
  expect(limitsOf(refused)[0]).toBe('"user";r=2;t=60, "address";r=0;t=60');
  expect((await place(jim, saleId, from('192.0.2.8'))).status).toBe(202);
  const another = await openSale({ addressPurchasesPerMinute: 2 });
  expect((await place(jim, another, office)).status).toBe(202);
});

test('a sale that does not say so counts no addresses', async () => {
  const saleId = await openSale();
  const shoppers = await Promise.all([0, 1, 2, 3, 4].map(() => app.shopper()));
  const replies = await Promise.all(shoppers.map((each) => place(each, saleId, from('192.0.2.9'))));
  expect(replies.map(({ status }) => status)).toEqual([202, 202, 202, 202, 202]);
});

test('what a proxy gives that is no address is not counted as one', async () => {
  const saleId = await openSale({ addressPurchasesPerMinute: 1 });
  const shoppers = await Promise.all(
    ['unknown', 'unknown', 'fe80::1%a-b', 'fe80::1%a-b'].map(async (given) => {
      return place(await app.shopper(), saleId, from(given));
    }),
  );
  expect(shoppers.map(({ status }) => status)).toEqual([202, 202, 202, 202]);
});

test('a sale that this process has not seen is met with its first order, and counted from then on', async () => {
  const { saleId } = await api.stores.openSale(buildSale({ skus: [MUG], addressPurchasesPerMinute: 1 }));
  const address = from('192.0.2.10');
  const first = await place(await app.shopper(), saleId, address);

  const counted = await waitFor('the sale to be known', async () => {
    const reply = await place(await app.shopper(), saleId, address);
    return reply.headers.get('ratelimit')?.includes('address') && reply;
  });

  expect(first.headers.get('ratelimit')).toBe('"user";r=2;t=60');
  expect(counted.headers.get('ratelimit')).toBe('"user";r=2;t=60, "address";r=0;t=60');
});

test('a rule that is changed while the sale is on counts within a second', async () => {
  const saleId = await openSale();
  const buy = async () => place(await app.shopper(), saleId, from('192.0.2.11'));
  await api.stores.redis.hset(saleKeys({ saleId, shard: 0 }).sale, 'address_purchases', 1);
  expect([(await buy()).status, (await buy()).status]).toEqual([202, 202]);

  clock.pass(KEPT_FRESH_MS + 1);
  await waitFor('the rule to be known', async () =>
    (await buy()).headers.get('ratelimit')?.includes('address'),
  );

  expect(refusalOf(await buy())).toBe('429 too_many_purchases');
});

// Without HTTP.

const anySale = (addressPurchasesPerMinute: number | null) => ({ saleId: 's', addressPurchasesPerMinute });

test.each([
  ['2001:db8:1:2::1', '2001:db8:1:2:ffff::9', 'the same'],
  ['2001:db8:1:2::1', '2001:db8:1:3::1', 'another'],
  ['192.0.2.1', '::ffff:192.0.2.1', 'the same'],
  ['192.0.2.1', '192.0.2.2', 'another'],
])('%s and %s count as %s address', (one, two, which) => {
  const { count } = createPurchaseLimits(100);
  count({ userId: 'ada', ip: one }, anySale(1));
  const { standing } = count({ userId: 'bob', ip: two }, anySale(1));
  expect(standing).toBe(which === 'another' ? 'within' : 'over');
});

test('a full memory forgets first whose last attempt is the longest ago', () => {
  const { count } = createPurchaseLimits(1);
  const standingOf = (userId: string) => count({ userId, ip: '' }, undefined).standing;
  standingOf('early');
  standingOf('eager');
  for (let i = 0; i < REMEMBERED_MAX - 1; i += 1) {
    standingOf(`other-${i}`);
    if (i === 10) standingOf('eager');
  }

  expect([standingOf('eager'), standingOf('early')]).toEqual(['spent', 'within']);
});
