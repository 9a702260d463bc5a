/** Load shedding: how many calls of a kind are worked on at once, and what happens to the next. */

import { beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { MAX_LOOKS_IN_FLIGHT, MAX_OTHERS_IN_FLIGHT } from '../../../src/api/app.ts';
import { signToken } from '../../../src/api/http/auth.ts';
import { createLane } from '../../../src/api/http/http-server.ts';
import { WATCHER_BOUNDS } from '../../../src/api/watchers.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';
import { buildSale } from '../../support/factories.ts';
import type { HttpApp } from '../../support/http-app.ts';
import {
  JWT_SECRET,
  pressPay,
  refusalOf,
  send,
  sessionOf,
  type Reply,
  type Shopper,
} from '../../support/shopper.ts';
import { waitFor } from '../../support/wait.ts';
import { scrapeCounter } from '../metrics.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { openRaw } from '../raw-http.ts';

let api: TestApi;
let saleId: string;

beforeAll(async () => {
  api = await openApi();
});

beforeEach(async () => {
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 2_000, limitPerUser: null }];
  ({ saleId } = await api.stores.openSale(buildSale({ skus })));
});

type Reservations = TestApi['stores']['reservations'];

interface SlowApp {
  app: HttpApp;
  shopper: Shopper;
  /** How many calls of the slow function wait. */
  waiting: () => number;
  /** By it callers wait for a place. It stands still, so that none leaves before the last has come. */
  clock: TestClock;
  /** From now on no call waits any more. */
  letGo: () => void;
}

/** So few that a busy machine answers all of them soon, once they are let go. */
const FEW = { purchasesAtOnce: 8, purchasesWaiting: 24 };

/** An app whose store does not answer in this function, until it is let go. */
async function openSlow(slow: 'reserve' | 'readOrder', places = FEW): Promise<SlowApp> {
  let letGo = (): void => {};
  let waiting = 0;
  const gate = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const wait = async () => {
    waiting += 1;
    await gate;
    waiting -= 1;
  };
  const { reservations } = api.stores;
  const slowed: Partial<Reservations> =
    slow === 'reserve'
      ? { reserve: (request) => wait().then(() => reservations.reserve(request)) }
      : { lookUp: (orderNo) => wait().then(() => reservations.lookUp(orderNo)) };
  const clock = createTestClock();
  const app = await api.withParts({ ...places, reservations: { ...reservations, ...slowed }, clock });
  onTestFinished(async () => {
    letGo();
    await app.close();
  });
  return { app, shopper: await app.shopper(), waiting: () => waiting, clock, letGo };
}

const cart = () => ({ saleId, items: [{ sku: 'lamp', quantity: 1 }] });

/** As many purchases as may be in the API at once; answers once all of them are. */
async function fill({ app, shopper, waiting }: SlowApp): Promise<Promise<Reply>[]> {
  const count = FEW.purchasesAtOnce + FEW.purchasesWaiting;
  const replies = Array.from({ length: count }, () => shopper.placeOrder(cart()));
  // Without a token it gets no place: it is refused for that until the sale has no room.
  await waitFor('the lane to be full', async () => {
    const probe = await send(`${app.url}/v1/orders?probe`, 'POST', { body: cart() });
    return refusalOf(probe) === '503 overloaded';
  });
  expect(waiting()).toBe(FEW.purchasesAtOnce);
  return replies;
}

const NONE_SHED = {
  purchases: 0,
  notices: 0,
  payments: 0,
  others: 0,
  verifications: 0,
  looks: 0,
  staff: 0,
  queries: 0,
  feeds: 0,
  bodies: 0,
};
const shedBy = ({ app }: SlowApp) => scrapeCounter(app.url, 'holdfast_shed_total');

/** Those that wait too long are refused too; there is no other answer. */
function countOf(replies: readonly Reply[]): { accepted: number; overloaded: number } {
  const accepted = replies.filter(({ status }) => status === 202).length;
  const overloaded = replies.filter(({ status }) => status === 503).map(refusalOf);
  expect(new Set(overloaded)).toEqual(new Set(overloaded.length > 0 ? ['503 overloaded'] : []));
  expect(accepted + overloaded.length).toBe(replies.length);
  return { accepted, overloaded: overloaded.length };
}

test('while as many purchases are in the API as may be, the next is refused before its token is verified', async () => {
  const slow = await openSlow('reserve');
  const replies = await fill(slow);

  const [refused, anonymous] = await Promise.all([
    slow.shopper.placeOrder(cart()),
    send(`${slow.app.url}/v1/orders`, 'POST', { body: cart() }),
  ]);

  expect([refusalOf(refused), refusalOf(anonymous)]).toEqual(['503 overloaded', '503 overloaded']);
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
  slow.letGo();
  const { accepted, overloaded } = countOf(await Promise.all(replies));
  expect(accepted).toBeGreaterThanOrEqual(FEW.purchasesAtOnce);
  expect((await slow.shopper.placeOrder(cart())).status).toBe(202);
  // The two, and the probe that found the lane full.
  expect(await shedBy(slow)).toEqual({ ...NONE_SHED, purchases: overloaded + 3 });
  const answers = await scrapeCounter(slow.app.url, 'holdfast_purchases_total');
  expect(answers).toMatchObject({ accepted: accepted + 1, overloaded: overloaded + 3 });
  expect((await api.stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ held: accepted + 1 });
});

test('while the store hangs no call waits long for a place, and nothing is done for one that waited in vain', async () => {
  const slow = await openSlow('reserve');
  const replies = await fill(slow);
  let answered = 0;
  const counting = replies.map((reply) => reply.then(() => (answered += 1)));
  slow.clock.pass(2_000);

  await waitFor('all that waited to be refused', () => answered === FEW.purchasesWaiting);
  slow.letGo();
  await Promise.all(counting);
  const counts = countOf(await Promise.all(replies));
  expect(counts).toEqual({ accepted: FEW.purchasesAtOnce, overloaded: FEW.purchasesWaiting });
  expect((await shedBy(slow))['purchases']).toBe(FEW.purchasesWaiting + 1);
  expect((await api.stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ held: FEW.purchasesAtOnce });
});

test('a rush of purchases keeps no shopper from looking, paying or cancelling, and no notice from arriving', async () => {
  const slow = await openSlow('reserve');
  const shopper = await api.shopper(slow.shopper.userId);
  const [toPay, toCancel] = [await shopper.buy(saleId), await shopper.buy(saleId)];
  await api.store(toPay);
  const replies = await fill(slow);

  expect((await send(`${slow.app.url}/healthz`, 'GET')).status).toBe(200);
  expect((await send(`${slow.app.url}/readyz`, 'GET')).status).toBe(200);
  expect((await send(`${slow.app.url}/metrics`, 'GET')).status).toBe(200);
  expect((await send(`${slow.app.url}/v1/sales/${saleId}`, 'GET')).status).toBe(200);
  expect((await slow.shopper.cancel(toCancel)).status).toBe(202);
  await pressPay(sessionOf(await slow.shopper.pay(toPay)).url);
  await waitFor('the payment', async () => (await slow.shopper.readOrder(toPay)).status === 'paid');

  expect(slow.waiting()).toBe(FEW.purchasesAtOnce);
  slow.letGo();
  await Promise.all(replies);
});

test('shoppers who go away keep their place until their order is done, and no longer', async () => {
  const slow = await openSlow('reserve', { ...FEW, purchasesWaiting: 0 });
  const connections = await Promise.all(
    Array.from({ length: FEW.purchasesAtOnce }, () => openRaw(slow.app.url)),
  );
  const body = JSON.stringify(cart());
  connections.forEach((connection, i) =>
    connection.write(
      `POST /v1/orders HTTP/1.1\r\nHost: shop\r\nAuthorization: ${slow.shopper.authorization}\r\nIdempotency-Key: gone-${i}\r\n` +
        `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    ),
  );
  await waitFor('the places to be taken', () => slow.waiting() === FEW.purchasesAtOnce);
  for (const connection of connections) connection.close();
  await Promise.all(connections.map((connection) => connection.untilClosed()));

  // It finds no place, and none comes free while their work goes on.
  expect(refusalOf(await slow.shopper.placeOrder(cart()))).toBe('503 overloaded');
  slow.letGo();
  await waitFor('a place', async () => (await slow.shopper.placeOrder(cart())).status === 202);
  await waitFor('the orders of those who went to be held too', async () => {
    const [lamps] = (await api.stores.saleStock.read(saleId))?.skus ?? [];
    return lamps?.held === FEW.purchasesAtOnce + 1;
  });
});

const present = { res: { closed: false } };

test('a lane has so many places, and each comes back, also after a failure', async () => {
  let shed = 0;
  const lane = createLane({
    placesMax: 1,
    waitingMax: 0,
    onShed: () => (shed += 1),
    clock: createTestClock(),
  });

  await expect(lane.enter(present, () => Promise.reject(new Error('failed')))).rejects.toThrow('failed');
  await lane.enter(present, async () => {
    expect(lane.isFull()).toBe(true);
    const another = lane.enter(present, () => Promise.resolve());
    await expect(another).rejects.toMatchObject({ status: 503, code: 'overloaded' });
    expect(lane.isFull()).toBe(true);
  });
  expect([lane.isFull(), shed]).toEqual([false, 1]);
});

test('callers come in the order of arrival, and those that have gone meanwhile are passed over', async () => {
  const lane = createLane({ placesMax: 1, waitingMax: 3, onShed: () => {}, clock: createTestClock() });
  const gone = { res: { closed: false } };
  const seen: string[] = [];
  const enter = (ctx: typeof present, name: string) =>
    lane.enter(ctx, async () => {
      seen.push(name);
    });
  const waiters: Promise<void>[] = [];

  await lane.enter(present, async () => {
    waiters.push(enter(present, 'first'), enter(gone, 'gone'), enter(present, 'last'));
    expect(lane.isFull()).toBe(true);
    gone.res.closed = true;
  });
  await Promise.all(waiters);

  expect(seen).toEqual(['first', 'last']);
  await enter(present, 'later');
  expect(seen).toEqual(['first', 'last', 'later']);
});

interface Sold {
  res: { closed: boolean };
  state: { body: string };
}

/** A lane of one place that groups share, whose calls are at work until they are let go, one by one. */
function openShared(waitingMax: number) {
  const shed: string[] = [];
  const clock = createTestClock();
  const lane = createLane({
    placesMax: 1,
    waitingMax,
    groupOf: ({ state }) => String(state?.body),
    onShed: () => {},
    clock,
  });
  const begun: string[] = [];
  const finish: (() => void)[] = [];
  const enter = (name: string, sale: string): Promise<void> => {
    const call: Sold = { res: { closed: false }, state: { body: sale } };
    return lane
      .enter(call, () => {
        begun.push(name);
        return new Promise<void>((resolve) => finish.push(resolve));
      })
      .catch(() => void shed.push(name));
  };
  return {
    lane,
    clock,
    begun,
    shed,
    enter,
    /** Ends the call that is at work, and waits for the next to begin. */
    async endOne(): Promise<void> {
      finish.shift()?.();
      await new Promise(setImmediate);
    },
  };
}

test('sales take turns at the places of a lane; within a sale the first to come is the first to be served', async () => {
  const { enter, endOne, begun, shed } = openShared(12);
  for (const name of ['a1', 'a2', 'a3', 'a4']) void enter(name, 'a');
  for (const name of ['b1', 'b2', 'c1']) void enter(name, name.slice(0, 1));

  for (let i = 0; i < 7; i += 1) await endOne();

  expect(begun).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4']);
  expect(shed).toEqual([]);
});

test('a sale that is alone has all the room to wait, and shares it with those that come', async () => {
  const { lane, enter, endOne, begun, shed } = openShared(6);
  for (let i = 0; i < 8; i += 1) void enter(`a${i}`, 'a');
  await endOne();
  expect([shed, lane.isFull('a'), lane.isFull('b')]).toEqual([['a7'], false, false]);

  for (let i = 0; i < 4; i += 1) void enter(`b${i}`, 'b');
  for (let i = 0; i < 3; i += 1) void enter(`c${i}`, 'c');
  void enter('a8', 'a');
  await endOne();
  expect(shed).toEqual(['a7', 'b3', 'c2', 'a8']);

  for (let i = 0; i < 10; i += 1) await endOne();
  expect(begun).toHaveLength(12);
  for (let i = 0; i < 7; i += 1) void enter(`d${i}`, 'd');
  expect(lane.isFull('d')).toBe(true);
});

test('whoever waits too long is refused, in each queue, and those behind keep their turns', async () => {
  const { enter, endOne, clock, begun, shed } = openShared(12);
  for (const name of ['a1', 'a2', 'b1']) void enter(name, name.slice(0, 1));
  clock.pass(1_000);
  for (const name of ['b2', 'a3', 'c1']) void enter(name, name.slice(0, 1));

  clock.pass(1_000);
  await new Promise(setImmediate);
  expect(shed).toEqual(['a2', 'b1']);
  await endOne();
  clock.pass(1_000);
  await new Promise(setImmediate);

  expect(begun).toEqual(['a1', 'a3']);
  expect(shed).toEqual(['a2', 'b1', 'b2', 'c1']);
});

test('while one sale fills the lane, a buyer of another waits for a place, and made-up sales share the part of one', async () => {
  const slow = await openSlow('reserve');
  const other = await api.stores.openSale(buildSale());
  // A process has met the sales that it has shown.
  for (const id of [saleId, other.saleId]) await send(`${slow.app.url}/v1/sales/${id}`, 'GET');
  const replies = await fill(slow);

  const calm = slow.shopper.placeOrder({ ...cart(), saleId: other.saleId });
  const made = Array.from({ length: FEW.purchasesWaiting }, (_, i) =>
    slow.shopper.placeOrder({ ...cart(), saleId: `made-up-${i}` }),
  );
  // The made-up sales share one part, of three.
  const refused = FEW.purchasesWaiting - FEW.purchasesWaiting / 3;
  await waitFor('what has no room to be refused', async () => {
    return (await shedBy(slow))['purchases'] === 1 + refused;
  });
  expect(slow.waiting()).toBe(FEW.purchasesAtOnce);
  slow.letGo();

  expect((await calm).status).toBe(202);
  expect((await Promise.all(replies)).map(({ status }) => status)).toEqual(replies.map(() => 202));
  const answers = (await Promise.all(made)).map(refusalOf);
  expect(answers.filter((answer) => answer === '503 overloaded')).toHaveLength(refused);
  expect(new Set(answers)).toEqual(new Set(['503 overloaded', '404 sale_not_found']));
});

test('a flood of reads is refused beyond its own bound, and purchases go on', async () => {
  const slow = await openSlow('readOrder');
  const orderNo = await slow.shopper.buy(saleId);
  const reads = Array.from({ length: MAX_OTHERS_IN_FLIGHT }, () => slow.shopper.getOrder(orderNo));
  await waitFor('the lane to be full', () => slow.waiting() === MAX_OTHERS_IN_FLIGHT);

  const refused = await slow.shopper.getOrder(orderNo);

  expect(refusalOf(refused)).toBe('503 overloaded');
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
  expect(await shedBy(slow)).toEqual({ ...NONE_SHED, others: 1 });
  await slow.shopper.buy(saleId);
  // The back office is not of the crowd.
  const token = await signToken(JWT_SECRET, 'olga', '1h', { roles: ['operator'] });
  const headers = { authorization: `Bearer ${token}` };
  const pause = await send(`${slow.app.url}/v1/admin/sales/${saleId}/pause`, 'POST', { headers });
  expect(pause.status).toBe(200);
  slow.letGo();
  expect((await Promise.all(reads)).map(({ status }) => status)).toEqual(reads.map(() => 200));
});

test('more callers that wait for changes than are looked up at once take their turns, and no other read waits', async () => {
  const slow = await openSlow('readOrder');
  const shoppers = await Promise.all(Array.from({ length: 8 }, () => slow.app.shopper()));
  const polls = await Promise.all(
    shoppers.map(async (shopper) => {
      const path = `/v1/orders/${await shopper.buy(saleId)}?wait=25`;
      const headers = { 'if-none-match': '"another"' };
      return Array.from({ length: WATCHER_BOUNDS.watchersPerUserMax }, () =>
        shopper.call('GET', path, { headers }),
      );
    }),
  );
  await waitFor('as many looks as may be', () => slow.waiting() === MAX_LOOKS_IN_FLIGHT);

  const read = slow.shopper.getOrder(await slow.shopper.buy(saleId));
  await waitFor('another read', () => slow.waiting() === MAX_LOOKS_IN_FLIGHT + 1);
  slow.letGo();

  const statuses = (await Promise.all(polls.flat())).map(({ status }) => status);
  expect(statuses).toEqual(statuses.map(() => 200));
  expect((await read).status).toBe(200);
  expect(await shedBy(slow)).toEqual(NONE_SHED);
});
