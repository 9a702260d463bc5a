/** When a queued order is to be asked for again: by how long the oldest order of its outbox has waited. */

import { beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { createPollAdvice } from '../../../src/api/calls/poll-advice.ts';
import { saleKeys } from '../../../src/redis/keys.ts';
import { createStatusBoard, statusReaders } from '../../../src/status/board.ts';
import { openStores } from '../../../src/stores/open.ts';
import { openTcpProxy } from '../../../stack/servers/tcp-proxy.ts';
import { createTestClock } from '../../support/clock.ts';
import { buildSale } from '../../support/factories.ts';
import { orderOf, type Shopper } from '../../support/shopper.ts';
import { silent } from '../../support/stores.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openApi();
});

/** An app with a board that looks when the test says so, and a clock that passes when the test says so. */
async function openSaleToAsk({ paymentWindowMs = 30 * 60_000, stores = api.stores } = {}) {
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null }];
  const { saleId } = await api.stores.openSale(buildSale({ skus, paymentWindowMs }));
  const { outbox } = saleKeys({ saleId, shard: 0 });
  const clock = createTestClock();
  const statusBoard = createStatusBoard(
    statusReaders(async () => stores, stores),
    clock,
  );
  // Nobody is told a moment sooner than another.
  let drawn = 0;
  const app = await api.withParts({ pollAdvice: createPollAdvice(statusBoard, () => drawn) });
  const shopper = await app.shopper();
  const buy = async (count: number) => {
    const orderNos = [];
    for (let i = 0; i < count; i += 1) orderNos.push(await shopper.buy(saleId));
    return orderNos;
  };
  const advice = async () => {
    const reply = await shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 1 }] });
    const { pollAfterMs } = orderOf(reply);
    expect(reply.headers.get('retry-after')).toBe(String(Math.ceil(Number(pollAfterMs) / 1_000)));
    return pollAfterMs;
  };
  return {
    shopper,
    buy,
    advice,
    draw: (number: number) => void (drawn = number),
    pass: clock.pass,
    look: () => statusBoard.look(),
    /** An entry of an order that nobody comes to, from so long ago. */
    async leave(ageMs: number): Promise<string> {
      const [seconds] = await api.stores.redis.time();
      const entryId = `${Number(seconds) * 1_000 - ageMs}-0`;
      await api.stores.redis.xadd(outbox, entryId, 'order_no', 'x');
      return entryId;
    },
    takeOff: (entryId: string) => api.stores.redis.xdel(outbox, entryId),
  };
}

async function adviceFor(shopper: Shopper, orderNo = ''): Promise<number | null> {
  return (await shopper.readOrder(orderNo)).pollAfterMs;
}

test('without a worker it is for as long again as the oldest has waited', async () => {
  const sale = await openSaleToAsk();
  await sale.leave(4_500);
  expect(await sale.advice()).toBe(1_000);

  await sale.look();

  expect(await sale.advice()).toBeGreaterThanOrEqual(4_500);
});

test('it is ten seconds at most, however long nothing was stored', async () => {
  const sale = await openSaleToAsk();
  await sale.leave(60 * 60_000);
  await sale.look();

  expect(await sale.advice()).toBe(10_000);
});

test('while orders are stored it is as long as the oldest that still waits has waited', async () => {
  const sale = await openSaleToAsk();
  const oldest = await sale.leave(9_000);
  await sale.leave(3_000);
  await sale.look();
  expect(await sale.advice()).toBeGreaterThanOrEqual(9_000);

  await sale.takeOff(oldest);
  await sale.look();

  const advice = await sale.advice();
  expect(advice).toBeGreaterThanOrEqual(3_000);
  expect(advice).toBeLessThan(9_000);
});

test('it takes at most a tenth of the time that is left to pay', async () => {
  const sale = await openSaleToAsk({ paymentWindowMs: 40_000 });
  await sale.leave(20_000);
  const [orderNo = ''] = await sale.buy(1);
  await sale.look();
  expect(await adviceFor(sale.shopper, orderNo)).toBeLessThanOrEqual(4_000);
  expect(await adviceFor(sale.shopper, orderNo)).toBeGreaterThan(1_000);
});

test('a crowd with one advice is spread over the last fifth of it', async () => {
  const sale = await openSaleToAsk();
  await sale.leave(60 * 60_000);
  await sale.look();
  const seen = new Set<number | null>();
  for (const drawn of [0, 0.25, 0.5, 0.75, 0.99]) {
    sale.draw(drawn);
    seen.add(await sale.advice());
  }
  expect(Math.max(...[...seen].map(Number))).toBe(10_000);
  expect(Math.min(...[...seen].map(Number))).toBeGreaterThanOrEqual(8_000);
  expect(seen.size).toBe(5);
});

test('it is by the status alone once nothing was read for a while, and while Redis is away', async () => {
  const [redisUrl = ''] = api.stores.config.REDIS_URL;
  const wire = await openTcpProxy(new URL(redisUrl).host);
  onTestFinished(() => wire.close());
  const stores = await openStores({ ...api.stores.config, REDIS_URL: [`redis://${wire.address}`] }, silent);
  onTestFinished(() => stores.close());
  const sale = await openSaleToAsk({ stores: { ...api.stores, ...stores } });
  await sale.leave(60 * 60_000);
  await sale.look();
  expect(await sale.advice()).toBe(10_000);

  wire.cut();
  await waitFor('the wire to be cut', () => stores.redis.status !== 'ready');
  sale.pass(6_000);
  await sale.look();

  expect(await sale.advice()).toBe(1_000);
});

test('no answer costs Redis a command for it', async () => {
  const sale = await openSaleToAsk();
  const [orderNo = ''] = await sale.buy(1);
  await sale.look();
  const commands = vi.spyOn(api.stores.redis, 'xinfo');
  onTestFinished(() => commands.mockRestore());

  for (let i = 0; i < 20; i += 1) await adviceFor(sale.shopper, orderNo);

  expect(commands).not.toHaveBeenCalled();
});
