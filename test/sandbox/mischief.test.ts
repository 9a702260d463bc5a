/** Mischief with callbacks: dropped, duplicated and held back, by shares and by a seed. */

import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { expect, test } from 'vitest';
import {
  createMischiefState,
  decideFate,
  mischiefSettingsSchema,
  type MischiefSettings,
} from '../../sandbox/book/mischief.ts';
import { bookedPaymentSchema, bookReplySchema } from '../../sandbox/test-wire.ts';
import { call, connect, countStruck, setMischief, takePayment, withWorld } from './sandbox-world.ts';

const STRAY = { reference: 'x', amount: 7, currency: 'EUR' };
const HOUR_MS = 3_600_000;

/** What becomes of the first events under these settings. */
function decideFates(settings: Partial<MischiefSettings>, count: number, type = 'payment.succeeded') {
  const state = createMischiefState();
  state.settings = mischiefSettingsSchema.parse(settings);
  return Array.from({ length: count }, (_, events) =>
    decideFate({ ...state, made: { ...state.made, events } }, type),
  );
}

test('without settings nothing goes wrong', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const reply = await call(sandbox, 'GET', '/v1/test/mischief');
    expect(reply).toMatchObject({
      status: 200,
      body: { settings: { duplicate: 0, reorder: 0, drop: 0, late: 0, wrong_amount: 0 } },
    });
    expect(reply).toMatchObject({ body: { settings: { refund_refused: 0, slow_refund: 0 } } });
    expect(new Set(Object.values(await countStruck(sandbox)))).toEqual(new Set([0]));
  }));

test.each([
  ['a share above 1', { drop: 1.5 }, {}, 400],
  ['a switch that there is not', { dorp: 0.5 }, {}, 400],
  ['another API key', { drop: 0.5 }, { authorization: 'Bearer wrong' }, 401],
])('mischief is not set with %s', (_, body, headers, status) =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    expect(await call(sandbox, 'PUT', '/v1/test/mischief', { body, headers })).toMatchObject({ status });
    expect(await call(sandbox, 'GET', '/v1/test/mischief')).toMatchObject({
      body: { settings: { drop: 0 } },
    });
  }),
);

test('a switch that is left out is off again', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    await setMischief(sandbox, { drop: 1, seed: 7 });
    await setMischief(sandbox, { late: 0.5, late_ms: 20 });
    expect(await call(sandbox, 'GET', '/v1/test/mischief')).toMatchObject({
      body: { settings: { drop: 0, late: 0.5, late_ms: 20, seed: 1 } },
    });
  }));

test('a dropped callback is never sent, unless by a redelivery', () =>
  withWorld(async ({ receiver, startSandbox, bookFile }) => {
    const sandbox = await startSandbox({ bookFile });
    const adapter = connect(sandbox);
    await setMischief(sandbox, { drop: 1, duplicate: 1, reorder: 1 });
    const paymentId = await takePayment(sandbox);
    await adapter.refund({ refundKey: 'k', providerPaymentId: paymentId, amount: 1, currency: 'SGD' });
    expect(await countStruck(sandbox)).toMatchObject({ drop: 2, duplicate: 0, reorder: 0 });
    await setMischief(sandbox, {});
    await call(sandbox, 'POST', '/v1/test/payments', { body: STRAY });
    const next = await receiver.next();
    expect(adapter.verifyNotice(next.body, next.headers)).toMatchObject({ payment: { orderNo: 'x' } });
    await sandbox.stop();

    const after = await startSandbox({ bookFile });
    const { data } = bookReplySchema.parse((await call(after, 'GET', '/v1/payments?limit=1')).body);
    expect(data).toMatchObject([{ id: paymentId, returned: 1 }]);
    const eventId = data[0]?.event_id;
    const asked = await call(after, 'POST', `/v1/test/events/${eventId}/redeliver`);
    expect(asked.body).toMatchObject({ delivery: 'dropped' });
    expect((await receiver.next()).headers['webhook-id']).toBe(eventId);
    await after.stop();
    expect(receiver.waiting()).toBe(0);
  }));

test('a dispute is reported even when everything is dropped', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    await setMischief(sandbox, { drop: 1 });
    const paymentId = await takePayment(sandbox);
    await call(sandbox, 'POST', `/v1/test/payments/${paymentId}/dispute`);
    const { body, headers } = await receiver.next();
    expect(connect(sandbox).verifyNotice(body, headers)).toMatchObject({ kind: 'payment_reversed' });
  }));

test('a duplicated callback comes twice, with the same id and bytes', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    await setMischief(sandbox, { duplicate: 1 });
    // Enough for both manners.
    expect(new Set(decideFates({ duplicate: 1 }, 8).map(({ duplicate }) => duplicate))).toEqual(
      new Set(['together', 'after']),
    );
    const bodies = new Map<string, string[]>();
    for (let nth = 0; nth < 8; nth += 1) await call(sandbox, 'POST', '/v1/test/payments', { body: STRAY });
    for (let nth = 0; nth < 16; nth += 1) {
      const { body, headers } = await receiver.next();
      const id = headers['webhook-id'] ?? '';
      bodies.set(id, [...(bodies.get(id) ?? []), body]);
    }
    expect([...bodies.values()].map((all) => [all.length, new Set(all).size])).toEqual(
      Array.from({ length: 8 }, () => [2, 1]),
    );
    expect(await countStruck(sandbox)).toMatchObject({ duplicate: 8 });
    await sandbox.stop();
    expect(receiver.waiting()).toBe(0);
  }));

test('a callback may come twice at the same time', () =>
  withWorld(async ({ startSandbox }) => {
    const seeds = Array.from({ length: 50 }, (_, seed) => seed);
    const seed = seeds.find(
      (each) => decideFates({ duplicate: 1, seed: each }, 1)[0]?.duplicate === 'together',
    );
    // Neither copy gets an answer before both are here.
    const waiting: ServerResponse[] = [];
    const patient = createServer((request, response) => {
      request.resume();
      if (waiting.push(response) === 2) patient.emit('both here');
    }).listen(0, '127.0.0.1');
    const bothHere = once(patient, 'both here');
    await once(patient, 'listening');
    try {
      const address = patient.address();
      const port = typeof address === 'object' ? address?.port : undefined;
      const sandbox = await startSandbox({ webhookUrl: `http://127.0.0.1:${port}/` });
      await setMischief(sandbox, { duplicate: 1, seed: seed ?? -1 });
      await call(sandbox, 'POST', '/v1/test/payments', { body: STRAY });
      await bothHere;
      for (const response of waiting) response.writeHead(204).end();
      await sandbox.stop();
    } finally {
      patient.close();
    }
  }));

test('a callback that is held back is overtaken', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    await setMischief(sandbox, { reorder: 1, reorder_ms: HOUR_MS });
    const { body } = await call(sandbox, 'POST', '/v1/test/payments', { body: STRAY });
    const { event_id: heldId } = bookedPaymentSchema.parse(body);
    await setMischief(sandbox, {});
    await call(sandbox, 'POST', '/v1/test/payments', { body: { ...STRAY, reference: 'later' } });
    expect((await receiver.next()).body).toContain('later');
    expect(await countStruck(sandbox)).toMatchObject({ reorder: 1 });
    // It is not lost: a redelivery sends it at once, and only once.
    await call(sandbox, 'POST', `/v1/test/events/${heldId}/redeliver`);
    expect((await receiver.next()).headers['webhook-id']).toBe(heldId);
    await sandbox.stop();
    expect(receiver.waiting()).toBe(0);
  }));

test('a callback that is held back comes in its time', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    await setMischief(sandbox, { reorder: 1, reorder_ms: 30 });
    await takePayment(sandbox);
    expect((await receiver.next()).body).toContain('payment.succeeded');
    await sandbox.stop();
    expect(receiver.waiting()).toBe(0);
  }));

test('a share is met, and the same seed decides the same', () => {
  const settings = { drop: 0.1, duplicate: 0.2, reorder: 0.2, reorder_ms: 500, seed: 3 };
  const fates = decideFates(settings, 5000);
  expect(decideFates(settings, 5000)).toEqual(fates);
  expect(decideFates({ ...settings, seed: 4 }, 5000)).not.toEqual(fates);
  const shareOf = (strikes: (fate: (typeof fates)[number]) => boolean) => fates.filter(strikes).length / 5000;
  // Four standard deviations of 5,000 draws; callbacks that are dropped are spared the rest.
  for (const [share, expected] of [
    [shareOf(({ drop }) => drop), 0.1],
    [shareOf(({ duplicate }) => duplicate !== 'no'), 0.18],
    [shareOf(({ delayMs }) => delayMs > 0), 0.18],
  ] as const) {
    expect(Math.abs(share - expected)).toBeLessThan(0.022);
  }
  expect(Math.max(...fates.map(({ delayMs }) => delayMs))).toBeLessThanOrEqual(500);
});
