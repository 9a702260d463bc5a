/** Events reach the shop's endpoints: signed, in order for each order, and however the endpoint fares. */

import pLimit from 'p-limit';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import { createDeliverer, createSecret, type Answer, RETRY_PAUSES_MS } from '../../src/push/deliverer.ts';
import { DOWN_AFTER_FAILURES, MAX_PUSHES_IN_FLIGHT } from '../../src/push/deliveries.sql.ts';
import { createEventSource } from '../../src/push/pusher.ts';
import { createLoopWatch } from '../../src/workers/loop.ts';
import { ageClaim } from '../support/ageing.ts';
import { verify, type Received } from '../support/receiver.ts';
import { select, selectOne } from '../support/rows.ts';
import { silent } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';
import { openPushWorld, type PushWorld } from './push-world.ts';

let world: PushWorld;
beforeEach(async () => {
  world = await openPushWorld();
});

/** Quick retries, and as many as of the published schedule; quick probes too. */
const QUICK = { retryPausesMs: Array.from({ length: 9 }, () => 20), firstProbeMs: 20 };

/** The versions that were received of each order, each at its first reception. */
function firstVersions(received: readonly Received[]): Record<string, number[]> {
  const versions: Record<string, number[]> = {};
  for (const { id } of received) {
    const [orderNo = '', version] = id.split('.');
    const seen = (versions[orderNo] ??= []);
    if (!seen.includes(Number(version))) seen.push(Number(version));
  }
  return versions;
}

describe('a delivery', () => {
  test('is the event as the feed shows it, signed by the library of Standard Webhooks', async () => {
    const { receiver, secret } = await world.addEndpoint('office');
    const [order] = await world.makeOrders(1);
    await world.publish();
    world.startWorker();
    await world.awaitCaughtUp('office');

    const [received] = receiver.received;
    expect(receiver.received).toHaveLength(1);
    expect(received?.id).toBe(`${order?.orderNo}.1`);
    expect(received && verify(received, secret)).toMatchObject({
      id: `${order?.orderNo}.1`,
      type: 'order.awaiting_payment',
      orderNo: order?.orderNo,
      version: 1,
      saleId: world.saleId,
      data: { order: { status: 'awaiting_payment', total: order?.total } },
    });
    expect(() => received && verify(received, createSecret())).toThrow();
  });

  test('keeps of each try when it was sent, how long it took, and what was answered', async () => {
    let tries = 0;
    const { endpoint } = await world.addEndpoint('office', {
      respond(_, response) {
        tries += 1;
        // A connection that was kept open and breaks off is tried once more on a new one.
        if (tries === 2 || tries === 3) return void response.destroy();
        if (tries === 4) return 204;
        return void response.writeHead(500).end(`an error: ${'\u00e4'.repeat(600)}`);
      },
    });
    await world.makeSaleEvents(1);
    await world.publish();
    world.startWorker(QUICK);
    await world.awaitCaughtUp('office');

    const { delivery_id: id } = await selectOne(world.stores.pool, 'SELECT delivery_id FROM push_deliveries');
    const kept = await world.stores.deliveries.read(endpoint.endpointId, Number(id));
    const common = { at: expect.any(String), tookMs: expect.any(Number) };
    expect(kept?.tries).toEqual([
      { ...common, status: 500, error: null, answer: `an error: ${'\u00e4'.repeat(490)}` },
      { ...common, status: null, error: 'the connection broke off', answer: null },
      { ...common, status: 204, error: null, answer: '' },
    ]);
    expect(await world.stores.deliveries.read(endpoint.endpointId + 1, Number(id))).toBeUndefined();
  });

  test('keeps its latest 20 tries', async () => {
    const { deliveries, pool } = world.stores;
    const { endpoint } = await world.addEndpoint('office');
    await world.makeSaleEvents(1);
    await world.publish();
    await world.feedOnly('office', 1);
    const sent: number[] = [];
    for (let status = 500; status < 525; status += 1) {
      await modify(pool, 'UPDATE push_deliveries SET due_at = NOW(3)');
      await modify(pool, 'UPDATE push_endpoints SET failures = 0');
      const [delivery] = (await deliveries.take(endpoint.endpointId))?.deliveries ?? [];
      if (!delivery) throw new Error('nothing was due');
      const tried = { at: '2026-01-01T00:00:00.000Z', tookMs: 1, status, error: null, answer: 'no\nmore' };
      await deliveries.fail({ ...delivery, tried }, `answered ${status}`, {
        retryMs: 1,
        askedMs: 0,
        probeMs: () => 0,
      });
      sent.push(status);
    }
    const { delivery_id: id } = await selectOne(pool, 'SELECT delivery_id FROM push_deliveries');
    const kept = await deliveries.read(endpoint.endpointId, Number(id));
    expect(kept?.tries.map(({ status }) => status)).toEqual(sent.slice(-20));
  });

  test('carries a signature by each secret while they rotate, and by one after that', async () => {
    const { endpoints } = world.stores;
    const { receiver, secret } = await world.addEndpoint('office');
    const next = createSecret();
    await endpoints.rotateSecret('office', createSecret(), 'ada');
    // The answer of the first call was lost: the shop still has the former one.
    await endpoints.rotateSecret('office', next, 'ada');
    world.startWorker();
    await world.makeSaleEvents(1);
    await world.publish();
    await world.awaitCaughtUp('office');
    await endpoints.retireSecret('office', 'ada');
    await world.makeSaleEvents(1);
    await world.publish();
    await world.awaitCaughtUp('office');

    const [rotating, retired] = receiver.received;
    for (const each of [secret, next]) expect(rotating && verify(rotating, each)).toBeTruthy();
    expect(retired && verify(retired, next)).toBeTruthy();
    expect(() => retired && verify(retired, secret)).toThrow();
  });

  test('comes only of the types and the sale that the endpoint asks for', async () => {
    const cancelled = await world.addEndpoint('cancelled', { terms: { types: ['order.cancelled'] } });
    const elsewhere = await world.addEndpoint('elsewhere', { terms: { saleId: 'another-sale' } });
    await world.makeOrders(2, 3);
    await world.makeSaleEvents(1);
    await world.publish();
    world.startWorker();
    await world.awaitCaughtUp('cancelled');
    await world.awaitCaughtUp('elsewhere');
    expect(cancelled.receiver.received.map(({ event }) => event.type)).toEqual([
      'order.cancelled',
      'order.cancelled',
    ]);
    expect(elsewhere.receiver.received).toEqual([]);
  });

  test('comes of what happens after the endpoint was created', async () => {
    await world.makeOrders(1);
    await world.publish();
    const { receiver } = await world.addEndpoint('office');
    const [later] = await world.makeOrders(1);
    await world.publish();
    world.startWorker();
    await world.awaitCaughtUp('office');
    expect(receiver.ids()).toEqual([`${later?.orderNo}.1`]);
  });
});

describe('the order of deliveries', () => {
  test('is that of the versions for each order, whatever fails, and bounded at once over all workers', async () => {
    let asked = 0;
    const { receiver } = await world.addEndpoint('office', {
      // Seldom enough that it does not count as down.
      respond: () => ((asked += 1) % 4 === 0 ? 500 : 204),
    });
    const orders = await world.makeOrders(30, 3);
    await world.publish();
    world.startWorker(QUICK);
    world.startWorker(QUICK);
    await world.awaitCaughtUp('office');

    const expected = orders.map(({ orderNo }) => [orderNo, [1, 2, 3]]);
    expect(firstVersions(receiver.received)).toEqual(Object.fromEntries(expected));
    expect(receiver.mostAtOnce()).toBeLessThanOrEqual(MAX_PUSHES_IN_FLIGHT);
    expect(await world.countDeliveries('office')).toEqual({ delivered: 90 });
    // Nothing was tried before its predecessor had succeeded.
    for (const { orderNo } of orders) {
      const tries = receiver.ids().filter((id) => id.startsWith(orderNo));
      expect(tries).toEqual(tries.toSorted());
    }
  });

  test('of one order waits for nothing of another', async () => {
    const [stuck] = await world.makeOrders(1, 2);
    const { receiver } = await world.addEndpoint('office', {
      respond: ({ id }) => (id.startsWith(String(stuck?.orderNo)) ? 500 : 204),
    });
    const others = await world.makeOrders(20);
    await world.publish();
    world.startWorker();
    await waitFor('the others', () => others.every(({ orderNo }) => receiver.ids().includes(`${orderNo}.1`)));
    await waitFor('nothing but the one order to wait', async () => {
      return (await world.stores.endpoints.read('office'))?.health.waiting === 2;
    });
    expect(receiver.ids()).not.toContain(`${stuck?.orderNo}.2`);
  });
});

describe('an endpoint', () => {
  test('that hangs delays no other, and holds no more than its share', async () => {
    const hanging = await world.addEndpoint('hanging', { respond: () => undefined });
    const { receiver } = await world.addEndpoint('office');
    await world.makeOrders(40);
    await world.publish();
    world.startWorker();
    // A worker that ends waits for the attempts under way.
    onTestFinished(() => hanging.receiver.hangUp());
    await world.awaitCaughtUp('office');
    expect(receiver.received).toHaveLength(40);
    expect(hanging.receiver.mostAtOnce()).toBeLessThanOrEqual(MAX_PUSHES_IN_FLIGHT);
    expect(await world.countDeliveries('hanging')).toEqual({ waiting: 40 });
  });

  test('that is down is probed with one delivery at a time, and caught up when it answers again', async () => {
    const { receiver } = await world.addEndpoint('office', { respond: () => 503 });
    const orders = await world.makeOrders(50, 2);
    await world.publish();
    world.startWorker();
    const healthNow = async () => (await world.stores.endpoints.read('office'))?.health;
    await waitFor('it to count as down, and nothing to be under way', async () => {
      const inFlight = await selectOne(
        world.stores.pool,
        'SELECT COUNT(*) AS n FROM push_deliveries WHERE claimed_until > NOW(3)',
      );
      return (await healthNow())?.isDown === true && inFlight['n'] === 0;
    });
    const { failures = 0, lastError } = (await healthNow()) ?? {};
    expect(lastError).toBe('answered 503');
    // Those that were under way when it was found out.
    expect(failures).toBeLessThanOrEqual(DOWN_AFTER_FAILURES + MAX_PUSHES_IN_FLIGHT);
    const sent = receiver.received.length;
    await world.probe('office');
    await waitFor('the probe to fail', async () => (await healthNow())?.failures === failures + 1);
    expect(receiver.received).toHaveLength(sent + 1);
    expect(await world.countDeliveries('office')).toEqual({ waiting: 100 });

    receiver.answerWith(() => 204);
    await world.probe('office');
    await world.awaitCaughtUp('office');
    expect(await world.countDeliveries('office')).toEqual({ delivered: 100 });
    expect(Object.keys(firstVersions(receiver.received))).toHaveLength(orders.length);
    expect((await world.stores.endpoints.read('office'))?.health).toMatchObject({
      isDown: false,
      failures: 0,
      failingSince: null,
    });
  });

  test('that answers 410 is disabled, shown to an operator, and misses nothing once it is enabled', async () => {
    const { receiver } = await world.addEndpoint('office', { respond: () => 410 });
    await world.makeOrders(3);
    await world.publish();
    world.startWorker();
    await waitFor('it to be disabled', async () => {
      return (await world.stores.endpoints.read('office'))?.disabledFor === 'gone';
    });
    const [parked] = await world.stores.parkedWork.list({ limit: 10 });
    expect(parked).toMatchObject({ kind: 'delivery', reference: 'office', cause: 'endpoint_gone' });
    await world.makeOrders(2);
    await world.publish();

    receiver.answerWith(() => 204);
    const decision = { actor: 'ada', reason: 'it is back' };
    expect(await world.stores.parkedWork.retry(parked?.parkedId ?? 0, decision)).toBe('due');
    await world.awaitCaughtUp('office');
    expect(await world.countDeliveries('office')).toEqual({ delivered: 5 });
    expect(await world.stores.parkedWork.list({ limit: 10 })).toEqual([]);
  });

  test('that is gone is shown to an operator also where an operator has resolved one of the same name before', async () => {
    const { endpoints, parkedWork } = world.stores;
    await world.addEndpoint('office', { respond: () => 410 });
    await world.makeOrders(1);
    await world.publish();
    world.startWorker();
    const isGone = async () => (await endpoints.read('office'))?.disabledFor === 'gone';
    await waitFor('it to be disabled', isGone);
    const [parked] = await parkedWork.list({ limit: 10 });
    await parkedWork.resolve(parked?.parkedId ?? 0, { actor: 'ada', reason: 'it was moved' });
    await endpoints.remove('office', 'ada');

    await world.addEndpoint('office', { respond: () => 410 });
    await world.makeOrders(1);
    await world.publish();
    await waitFor('the other to be disabled', isGone);
    expect(await parkedWork.list({ limit: 10 })).toMatchObject([
      { reference: 'office', cause: 'endpoint_gone' },
    ]);
  });

  test('that is disabled gets nothing, and all of it once it is enabled', async () => {
    const { receiver } = await world.addEndpoint('office');
    await world.stores.endpoints.disable('office', 'ada');
    const watched = await world.addEndpoint('watched');
    await world.makeOrders(5);
    await world.publish();
    world.startWorker();
    await world.awaitCaughtUp('watched');
    expect(watched.receiver.received).toHaveLength(5);
    expect(receiver.received).toEqual([]);
    await world.stores.endpoints.enable('office', 'ada');
    await world.awaitCaughtUp('office');
    expect(receiver.received).toHaveLength(5);
  });

  test('that is removed loses its rows, and another of its name begins anew', async () => {
    const { receiver } = await world.addEndpoint('office', { respond: () => 500 });
    await world.makeOrders(1_100);
    await world.publish();
    const { stop } = world.startWorker();
    await waitFor('a first attempt', () => receiver.received.length > 0);
    await stop();
    expect(await world.stores.endpoints.remove('office', 'ada')).toBe(true);
    expect(await world.stores.endpoints.remove('office', 'ada')).toBe(false);
    const again = await world.addEndpoint('office');
    await world.makeOrders(2);
    await world.publish();
    world.startWorker();
    await waitFor('the rows to be deleted', async () => {
      const rows = await select(world.stores.pool, 'SELECT name FROM push_endpoints');
      return rows.length === 1;
    });
    await world.awaitCaughtUp('office');
    expect(again.receiver.received).toHaveLength(2);
    expect(await selectOne(world.stores.pool, 'SELECT COUNT(*) AS n FROM push_deliveries')).toEqual({ n: 2 });
  });
});

describe('an attempt whose claim has run out', () => {
  /** As after a freeze: another worker may have the deliveries that the thawed one has claimed. */
  async function claimAndLose() {
    const { deliveries, pool } = world.stores;
    const { endpoint } = await world.addEndpoint('office');
    await world.makeOrders(DOWN_AFTER_FAILURES);
    await world.publish();
    await world.feedOnly('office', DOWN_AFTER_FAILURES);
    const claim = await deliveries.take(endpoint.endpointId);
    if (!claim) throw new Error('nothing was due');
    await ageClaim(pool, 'push', 'all');
    const { events } = await createEventSource(world.stores).readPage(0, 100);
    const deps = {
      ...world.stores,
      retryPausesMs: [60_000],
      firstProbeMs: 1_000,
      storing: pLimit(1),
      log: silent,
    };
    const deliverAll = async (answer: Answer) => {
      const deliver = createDeliverer(deps, { post: async () => answer });
      for (const delivery of claim.deliveries)
        await deliver(
          delivery,
          claim,
          events.find(({ id }) => id === delivery.eventId),
        );
    };
    return { claim, endpoint, deliverAll };
  }

  test.each([true, false])(
    'counts against no endpoint when it failed (taken by another: %s)',
    async (isTaken) => {
      const { deliveries, endpoints } = world.stores;
      const { endpoint, deliverAll } = await claimAndLose();
      const taken = isTaken ? await deliveries.take(endpoint.endpointId) : undefined;
      await deliverAll({ kind: 'failed', error: 'no answer within 15 s' });

      expect((await endpoints.read('office'))?.health).toMatchObject({ failures: 0, isDown: false });
      // The other one's claim stands; where there is none, all is due as it was.
      const again = await deliveries.take(endpoint.endpointId);
      expect(again?.deliveries.length ?? 0).toBe(isTaken ? 0 : DOWN_AFTER_FAILURES);
      for (const { attempts } of again?.deliveries ?? taken?.deliveries ?? []) expect(attempts).toBe(0);
    },
  );

  test('disables no endpoint that was gone at that time', async () => {
    const { deliverAll } = await claimAndLose();
    await deliverAll({ kind: 'answered', status: 410, retryAfterMs: 0, body: '' });
    expect((await world.stores.endpoints.read('office'))?.disabledFor).toBeNull();
  });

  test('is delivered where the endpoint took it, and says nothing of how the endpoint is now', async () => {
    const { deliverAll } = await claimAndLose();
    await modify(world.stores.pool, 'UPDATE push_endpoints SET failures = ?', [DOWN_AFTER_FAILURES]);
    await deliverAll({ kind: 'answered', status: 204, retryAfterMs: 0, body: '' });
    expect(await world.countDeliveries('office')).toEqual({ delivered: DOWN_AFTER_FAILURES });
    expect((await world.stores.endpoints.read('office'))?.health.isDown).toBe(true);
  });
});

describe('an endpoint that is back after two failures', () => {
  test('gets what has failed with the next delivery that it takes, and not minutes later', async () => {
    let isBack = false;
    const { receiver } = await world.addEndpoint('office', { respond: () => (isBack ? 204 : 500) });
    await world.makeOrders(2);
    await world.publish();
    world.startWorker({ retryPausesMs: [20, 5 * 60_000, 5 * 60_000] });
    await waitFor('two tries of each by the schedule', async () => {
      const rows = await select(world.stores.pool, 'SELECT attempts FROM push_deliveries');
      return rows.length === 2 && rows.every(({ attempts }) => attempts === 2);
    });
    isBack = true;
    await world.makeOrders(1);
    await world.publish();
    await world.awaitCaughtUp('office');
    expect(new Set(receiver.ids()).size).toBe(3);
  });

  test('gets it with a probe also where nothing else is sent', async () => {
    let isBack = false;
    const { receiver } = await world.addEndpoint('office', { respond: () => (isBack ? 204 : 500) });
    await world.makeOrders(1);
    await world.publish();
    world.startWorker({ retryPausesMs: [20, 5 * 60_000, 5 * 60_000] });
    await waitFor('two tries by the schedule', async () => {
      const [row] = await select(world.stores.pool, 'SELECT attempts FROM push_deliveries');
      return row?.['attempts'] === 2;
    });
    await world.probe('office');
    await waitFor('a probe in vain', () => receiver.ids().length === 3);
    isBack = true;
    await waitFor('that probe to be noted', async () => {
      const [row] = await select(world.stores.pool, 'SELECT claimed_until FROM push_deliveries');
      return row?.['claimed_until'] === null;
    });
    await world.probe('office');
    await world.awaitCaughtUp('office');
    // Probes were no tries of the schedule, and did not make it count as down.
    const [row] = await select(world.stores.pool, 'SELECT attempts, status FROM push_deliveries');
    expect(row).toEqual({ attempts: 3, status: 'delivered' });
    expect(receiver.ids()).toHaveLength(4);
  });

  test('is sent a delivery that it never takes once more for each try of the schedule, however much else it takes', async () => {
    const [stuck] = await world.makeOrders(1);
    const { receiver } = await world.addEndpoint('office', {
      respond: ({ id }) => (id.startsWith(String(stuck?.orderNo)) ? 500 : 204),
    });
    await world.publish();
    world.startWorker({ retryPausesMs: [60 * 60_000, 60 * 60_000] });
    const triesOfStuck = () => receiver.ids().filter((id) => id.startsWith(String(stuck?.orderNo))).length;
    for (let turn = 1; turn <= 5; turn += 1) {
      const [order] = await world.makeOrders(1);
      await world.publish();
      await waitFor('the other', () => receiver.ids().includes(`${order?.orderNo}.1`));
      await waitFor('its success to be noted', async () => {
        return (await world.stores.endpoints.read('office'))?.health.waiting === 1;
      });
    }
    const [row] = await select(
      world.stores.pool,
      `SELECT attempts, due_at > NOW(3) + INTERVAL 30 MINUTE AS waits FROM push_deliveries WHERE status = 'waiting'`,
    );
    expect(row).toEqual({ attempts: 1, waits: 1 });
    // By the schedule, and with the first success after that.
    expect(triesOfStuck()).toBeLessThanOrEqual(2);
  });
});

describe('a delivery that fails', () => {
  test('keeps its schedule of days at an endpoint that comes and goes', async () => {
    const { deliveries } = world.stores;
    const { endpoint } = await world.addEndpoint('office');
    await world.makeOrders(DOWN_AFTER_FAILURES);
    await world.publish();
    await world.feedOnly('office', DOWN_AFTER_FAILURES);
    const deps = {
      ...world.stores,
      retryPausesMs: RETRY_PAUSES_MS,
      firstProbeMs: 1_000,
      storing: pLimit(1),
      log: silent,
    };
    const busy: Answer = { kind: 'answered', status: 503, retryAfterMs: 0, body: '' };
    const deliver = createDeliverer(deps, { post: async () => busy });
    const { events } = await createEventSource(world.stores).readPage(0, 100);

    // As one that takes a single delivery, when it is probed, and none of those that follow.
    for (let turn = 0; turn <= RETRY_PAUSES_MS.length; turn += 1) {
      const claim = await deliveries.take(endpoint.endpointId);
      expect(claim?.deliveries).toHaveLength(DOWN_AFTER_FAILURES);
      for (const delivery of claim?.deliveries ?? [])
        await deliver(
          delivery,
          claim ?? { url: '', secrets: [] },
          events.find(({ id }) => id === delivery.eventId),
        );
      expect(await deliveries.noteSuccess(endpoint.endpointId)).toBe(true);
    }
    expect(await world.countDeliveries('office')).toEqual({ waiting: DOWN_AFTER_FAILURES });
  });

  test('is parked after the last try of its schedule, the next of its order follows, and a retry delivers it', async () => {
    const [order] = await world.makeOrders(1);
    await world.publish();
    const first = `${order?.orderNo}.2`;
    const { receiver } = await world.addEndpoint('office', {
      respond: ({ id }) => (id === first ? 500 : 204),
    });
    await world.stores.orders.requestCancel(String(order?.orderNo));
    if (order) await world.cancel(order);
    await world.publish();
    world.startWorker({ retryPausesMs: [20, 20] });
    await world.awaitCaughtUp('office');
    expect(receiver.ids()).toEqual([first, first, first, `${order?.orderNo}.3`]);
    const [parked] = await world.stores.parkedWork.list({ limit: 10 });
    expect(parked).toMatchObject({
      kind: 'delivery',
      reference: `office/${first}`,
      cause: 'delivery_failing',
      inputs: { endpoint: 'office', eventId: first, orderNo: order?.orderNo },
      lastError: 'no try of the schedule reached the endpoint; the last: answered 500',
    });

    receiver.answerWith(() => 204);
    const decision = { actor: 'ada', reason: 'mended' };
    expect(await world.stores.parkedWork.retry(parked?.parkedId ?? 0, decision)).toBe('due');
    await world.awaitCaughtUp('office');
    expect(receiver.ids().at(-1)).toBe(first);
    expect(await world.countDeliveries('office')).toEqual({ delivered: 2 });
    expect(await world.stores.parkedWork.list({ limit: 10 })).toEqual([]);
  });

  test('is tried by the published schedule, or later where the endpoint asks for it', async () => {
    const retryAfter = 1_800;
    await world.addEndpoint('office', {
      respond: (_, response) => {
        response.writeHead(429, { 'retry-after': String(retryAfter) }).end();
      },
    });
    await world.makeOrders(1);
    await world.publish();
    const before = Date.now();
    world.startWorker();
    const row = await waitFor('the first failure', async () => {
      const [found] = await select(world.stores.pool, 'SELECT attempts, due_at FROM push_deliveries');
      return found?.['attempts'] === 1 && found;
    });
    const dueAt = row['due_at'];
    expect(dueAt instanceof Date && dueAt.getTime()).toBeGreaterThanOrEqual(before + retryAfter * 1_000);
  });

  test('and is parked is an event of the feed, which is not pushed to endpoints', async () => {
    const { receiver } = await world.addEndpoint('office', { respond: () => 500 });
    await world.makeSaleEvents(1);
    await world.publish();
    world.startWorker({ retryPausesMs: [] });
    await world.awaitCaughtUp('office');
    receiver.answerWith(() => 204);
    await world.publish();
    await world.awaitCaughtUp('office');
    expect(receiver.received).toHaveLength(1);
    const event = await selectOne(
      world.stores.pool,
      `SELECT type FROM shop_events WHERE type LIKE 'parked.%'`,
    );
    expect(event).toEqual({ type: 'parked.opened' });
  });
});

test('a worker that dies after sending is followed by one that sends again', async () => {
  const { receiver } = await world.addEndpoint('office');
  await world.makeOrders(1);
  await world.publish();
  const { deliveries } = world.stores;
  world.startWorker({
    deliveries: { ...deliveries, complete: () => Promise.reject(new Error('died')) },
  });
  await waitFor('the first attempt', () => receiver.received.length === 1);
  await ageClaim(world.stores.pool, 'push', 'all');
  world.startWorker();
  await waitFor('the second attempt', () => receiver.received.length >= 2);
  expect(new Set(receiver.ids()).size).toBe(1);
});

test('a worker that finds ever more events for an endpoint does not hang: each turn is watched by itself', async () => {
  const { receiver } = await world.addEndpoint('office');
  await world.makeOrders(1);
  await world.publish();
  const { deliveries } = world.stores;
  let [turns, takes] = [0, 0];
  const { stop } = world.startWorker({
    deliveries: {
      ...deliveries,
      take: (endpointId) => {
        takes += 1;
        return deliveries.take(endpointId);
      },
    },
    watch: {
      during: (_name, turn) => {
        turns += 1;
        return turn();
      },
    },
  });
  await waitFor('the delivery', () => receiver.received.length === 1);
  await stop();
  // One that adds a delivery is followed by one that looks for more.
  expect(takes).toBeGreaterThan(1);
  expect(turns).toBe(takes);
});

test('a worker that never ends its turn at an endpoint is seen to hang', async () => {
  await world.addEndpoint('office');
  await world.makeOrders(1);
  await world.publish();
  const watch = createLoopWatch(undefined, 50);
  let release = (): void => {};
  const gate = new Promise<undefined>((resolve) => (release = () => resolve(undefined)));
  const { deliveries } = world.stores;
  world.startWorker({ deliveries: { ...deliveries, take: () => gate }, watch });
  await waitFor('the hang', () => watch.hanging().includes('push look'));
  release();
  await waitFor('its end', () => watch.hanging().length === 0);
});
