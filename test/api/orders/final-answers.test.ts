/** The header of final answers to purchases, by which a waiting room frees the place of their caller. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import type { Sale } from '../../../src/sales/sale.ts';
import { buildSale } from '../../support/factories.ts';
import type { HttpApp } from '../../support/http-app.ts';
import { acceptedOf, refusalOf, type Reply, type Shopper } from '../../support/shopper.ts';
import { openApi, openMysqlAway, type TestApi } from '../open-api.ts';

const NAME = 'Cf-Waiting-Room-Command';
const finalAnswerHeader = { name: NAME, value: 'revoke' };

let api: TestApi;
let app: HttpApp;
let shopper: Shopper;
beforeAll(async () => {
  api = await openApi();
  app = await api.withParts({ finalAnswerHeader });
  shopper = await app.shopper();
});

const sku = (name: string, total: number, rules: Partial<Sale['skus'][number]> = {}) => ({
  sku: name,
  name,
  unitPrice: 1_000,
  total,
  limitPerUser: null,
  ...rules,
});
const [NONE, ONE, TEN] = [sku('none', 0), sku('one', 1), sku('ten', 10)];

async function open(rules: Partial<Sale> = {}): Promise<string> {
  return (await api.stores.openSale(buildSale({ skus: [NONE], ...rules }))).saleId;
}

function place(saleId: string, name: string, quantity = 1, by = shopper): Promise<Reply> {
  return by.placeOrder({ saleId, items: [{ sku: name, quantity }] });
}

const told = ({ status, headers, body }: Reply) => {
  const what = status < 300 ? String(status) : refusalOf({ status, headers, body });
  return [what, headers.get(NAME)];
};

test('an accepted purchase is final, and so is its repeat', async () => {
  const saleId = await open({ skus: [TEN] });
  const order = { saleId, items: [{ sku: 'ten', quantity: 1 }] };
  const key = { 'idempotency-key': crypto.randomUUID() };

  const first = await shopper.placeOrder(order, key);
  const repeat = await shopper.placeOrder(order, key);
  const stored = await shopper.placeOrder(order, { prefer: 'wait=7' });

  expect([first, repeat, stored].map(told)).toEqual([
    ['202', 'revoke'],
    ['200', 'revoke'],
    ['201', 'revoke'],
  ]);
});

test('a repeat whose order no store can show is not final', async () => {
  const saleId = await open({ skus: [TEN] });
  const order = { saleId, items: [{ sku: 'ten', quantity: 1 }] };
  const key = { 'idempotency-key': crypto.randomUUID() };
  await shopper.placeOrder(order, key);
  const away = await openMysqlAway();
  onTestFinished(() => away.pool.end());
  const lookUp = () => Promise.reject(new Error('Command timed out'));
  const reservations = { ...api.stores.reservations, lookUp };
  const blind = await api.withParts({ ...away, reservations, finalAnswerHeader });

  const repeat = await (await blind.shopper(shopper.userId)).placeOrder(order, key);

  expect(told(repeat)).toEqual(['503 status_unavailable', null]);
});

test('sold out is final once no unpaid order holds a unit that may come back', async () => {
  const saleId = await open({ skus: [ONE] });
  const held = acceptedOf(await place(saleId, 'one'));
  expect(told(await place(saleId, 'one'))).toEqual(['409 sold_out', null]);

  await api.stores.reservations.confirm(held.orderNo);

  expect(told(await place(saleId, 'one'))).toEqual(['409 sold_out', 'revoke']);
});

test('sold out is not final while another SKU is left, or a smaller order could be had', async () => {
  expect(told(await place(await open({ skus: [NONE, TEN] }), 'none'))).toEqual(['409 sold_out', null]);
  expect(told(await place(await open({ skus: [ONE] }), 'one', 2))).toEqual(['409 sold_out', null]);
  const others = [NONE, sku('nothing', 0), sku('called-off', 5, { calledOff: true })];
  expect(told(await place(await open({ skus: others }), 'none'))).toEqual(['409 sold_out', 'revoke']);
});

test('a limit is final for a shopper who has all that it allows, and nothing else to buy', async () => {
  const limited = sku('ten', 10, { limitPerUser: 2 });
  const alone = await open({ skus: [limited] });
  expect(told(await place(alone, 'ten', 3))).toEqual(['409 limit_reached', null]);
  await place(alone, 'ten', 2);
  expect(told(await place(alone, 'ten'))).toEqual(['409 limit_reached', 'revoke']);

  const beside = await open({ skus: [limited, sku('other', 5)] });
  await place(beside, 'ten', 2);
  expect(told(await place(beside, 'ten'))).toEqual(['409 limit_reached', null]);

  const inAll = await open({ skus: [TEN, sku('other', 5)], limitPerUser: 2 });
  await place(inAll, 'ten');
  expect(told(await place(inAll, 'ten', 2))).toEqual(['409 sale_limit_reached', null]);
  await place(inAll, 'other');
  expect(told(await place(inAll, 'ten'))).toEqual(['409 sale_limit_reached', 'revoke']);
});

test('a sale that is over, a SKU that is called off and too many unpaid holds are final', async () => {
  const closed = await open({ closesAtMs: Date.now() - 1_000 });
  const off = await open({ skus: [sku('off', 5, { calledOff: true })] });
  const held = await open({ skus: [TEN], maxUnpaidHolds: 1 });
  const { orderNo } = acceptedOf(await place(held, 'ten'));
  await api.stores.reservations.release(orderNo, true);

  expect(told(await place(closed, 'none'))).toEqual(['403 sale_closed', 'revoke']);
  expect(told(await place(off, 'off'))).toEqual(['409 called_off', 'revoke']);
  expect(told(await place(held, 'ten'))).toEqual(['409 too_many_unpaid', 'revoke']);
});

test('what a caller may come back for, or has done wrong, is not final', async () => {
  const hour = 3_600_000;
  const early = await open({ opensAtMs: Date.now() + hour, closesAtMs: Date.now() + 2 * hour });
  const paused = await open({ paused: true });
  const ticketed = await open({ skus: [TEN], ticketRequired: true });
  const ordinary = await open({ skus: [TEN] });
  const limited = await api.withParts({
    finalAnswerHeader,
    userPurchasesPerMinute: 1,
  });
  const eager = await limited.shopper();
  await place(ordinary, 'ten', 1, eager);

  const replies = [
    await place(early, 'none'),
    await place(paused, 'none'),
    await place(ticketed, 'ten'),
    await place(ordinary, 'unknown'),
    await place('no-such-sale', 'ten'),
    await shopper.placeOrder({ saleId: ordinary, items: [] }),
    await place(ordinary, 'ten', 1, eager),
  ];

  expect(replies.map(told)).toEqual(
    [
      '403 sale_not_open_yet',
      '403 sale_paused',
      '403 ticket_required',
      '400 unknown_sku',
      '404 sale_not_found',
      '400 invalid_request',
      '429 too_many_purchases',
    ].map((code) => [code, null]),
  );
  await limited.close();
});

test('an order that fails while its caller waits is not final, for they may buy again', async () => {
  const saleId = await open({ skus: [TEN] });
  const order = { saleId, items: [{ sku: 'ten', quantity: 1 }] };
  const same = { 'idempotency-key': crypto.randomUUID(), prefer: 'wait=7' };
  await shopper.placeOrder(order, same);
  // MySQL refuses the next one for its key, which Redis has forgotten.
  await api.stores.redis.del(...(await api.stores.redis.keys(`*idem*${shopper.userId}*`)));

  const reply = await shopper.placeOrder(order, same);

  expect(told(reply)).toEqual(['409 order_failed', null]);
  expect(reply.headers.get('retry-after')).toBeNull();
});

test('without the setting no answer has it', async () => {
  const saleId = await open({ skus: [TEN] });
  const reply = await place(saleId, 'ten', 1, await api.shopper());
  expect(told(reply)).toEqual(['202', null]);
});
