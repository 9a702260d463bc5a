/** Callbacks: the sandbox provider signs and repeats them, and the shop's adapter verifies them. */

import { once } from 'node:events';
import { createServer } from 'node:http';
import { Webhook } from 'standardwebhooks';
import { expect, test } from 'vitest';
import { bookedPaymentSchema } from '../../sandbox/test-wire.ts';
import { InvalidSignatureError, MalformedNoticeError } from '../../src/providers/provider.ts';
import { createRemoteAdapter } from '../../src/providers/remote.ts';
import {
  buildSessionRequest,
  call,
  connect,
  ORDER_NO,
  OTHER_SECRET,
  pay,
  SIGNED_ORDER,
  SECRET,
  withWorld,
} from './sandbox-world.ts';

const provider = connect({ url: 'http://127.0.0.1:9' });

function sign(body: string, secret = SECRET, sentAt = new Date()): Record<string, string> {
  return {
    'webhook-id': 'evt_1',
    'webhook-timestamp': String(Math.floor(sentAt.getTime() / 1000)),
    'webhook-signature': new Webhook(secret).sign('evt_1', sentAt, body),
  };
}

function buildNotice(overrides: Record<string, unknown> = {}): string {
  return JSON.stringify({
    type: 'payment.succeeded',
    timestamp: '2026-11-21T00:00:00.000Z',
    data: {
      payment_id: 'pay_1',
      session_id: null,
      reference: ORDER_NO,
      amount: 12_345,
      currency: 'SGD',
    },
    ...overrides,
  });
}

test('a payment is reported by a signed callback that the adapter verifies', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    const { providerSessionId } = await adapter.openSession(buildSessionRequest());
    await pay(sandbox, providerSessionId);
    const { body, headers } = await receiver.next();
    expect(adapter.verifyNotice(body, headers)).toEqual({
      kind: 'payment_succeeded',
      eventId: headers['webhook-id'],
      payment: {
        providerPaymentId: expect.stringMatching(/^pay_/),
        orderNo: ORDER_NO,
        amount: 12_345,
        currency: 'SGD',
        signedOrder: SIGNED_ORDER,
      },
    });
    expect(JSON.parse(body)).toMatchObject({ data: { session_id: providerSessionId } });
  }));

test('a failed attempt is reported, takes nothing, and leaves the session open', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    const { providerSessionId } = await adapter.openSession(buildSessionRequest());
    await call(sandbox, 'POST', `/v1/payment_sessions/${providerSessionId}/fail`);
    const { body, headers } = await receiver.next();
    expect(adapter.verifyNotice(body, headers)).toEqual({
      kind: 'payment_failed',
      eventId: headers['webhook-id'],
      orderNo: ORDER_NO,
    });
    expect(await call(sandbox, 'GET', '/v1/payments')).toMatchObject({ body: { data: [] } });
    expect(await pay(sandbox, providerSessionId)).toMatchObject({ status: 200, body: { status: 'paid' } });
  }));

test('a session endures twenty failed attempts and no more', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const { providerSessionId } = await connect(sandbox).openSession(buildSessionRequest());
    const statuses: number[] = [];
    for (let attempt = 0; attempt < 21; attempt += 1) {
      statuses.push((await call(sandbox, 'POST', `/v1/payment_sessions/${providerSessionId}/fail`)).status);
    }
    expect(statuses).toEqual([...Array.from({ length: 20 }, () => 200), 409]);
  }));

test('money outside any session is taken and reported', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    const stray = { reference: 'no-such-order', amount: 7, currency: 'JPY' };
    const taken = await call(sandbox, 'POST', '/v1/test/payments', { body: stray });
    expect(taken).toMatchObject({ status: 201, body: { ...stray, session_id: null, signed_order: null } });
    const { body, headers } = await receiver.next();
    expect(connect(sandbox).verifyNotice(body, headers)).toMatchObject({
      kind: 'payment_succeeded',
      payment: { orderNo: 'no-such-order', amount: 7, currency: 'JPY', signedOrder: null },
    });
    await call(sandbox, 'POST', '/v1/test/payments', { body: { ...stray, signed_order: SIGNED_ORDER } });
    const signed = await receiver.next();
    expect(connect(sandbox).verifyNotice(signed.body, signed.headers)).toMatchObject({
      payment: { signedOrder: SIGNED_ORDER },
    });
  }));

test('a callback is repeated with the same id and bytes until the receiver says 2xx', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    // A redirect is no receipt either.
    receiver.answers.push(500, 302, 429);
    const { providerSessionId } = await connect(sandbox).openSession(buildSessionRequest());
    await pay(sandbox, providerSessionId);
    const notices = [
      await receiver.next(),
      await receiver.next(),
      await receiver.next(),
      await receiver.next(),
    ];
    expect(new Set(notices.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    expect(new Set(notices.map(({ body }) => body)).size).toBe(1);
    await sandbox.stop();
    expect(receiver.waiting()).toBe(0);
  }));

test('an event is given up when its tries are used up, and sent again by a redelivery', () =>
  withWorld(async ({ receiver, startSandbox, bookFile }) => {
    const sandbox = await startSandbox({ retryDelaysMs: [1], bookFile });
    receiver.answers.push(500, 500);
    const stray = { reference: 'x', amount: 1, currency: 'EUR' };
    const { body } = await call(sandbox, 'POST', '/v1/test/payments', { body: stray });
    const eventId = bookedPaymentSchema.parse(body).event_id;
    await receiver.next();
    await receiver.next();
    // The stop waits for the second refusal to be written down, and a restart does not try a third time by
    // itself.
    await sandbox.stop();
    const restarted = await startSandbox({ bookFile });
    const redelivery = await call(restarted, 'POST', `/v1/test/events/${eventId}/redeliver`);
    expect(redelivery).toMatchObject({ status: 202, body: { id: eventId, delivery: 'given_up' } });
    expect((await receiver.next()).headers['webhook-id']).toBe(eventId);
    await restarted.stop();
    expect(receiver.waiting()).toBe(0);
  }));

test('a delivered event can be delivered once more', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    const { providerSessionId } = await connect(sandbox).openSession(buildSessionRequest());
    await pay(sandbox, providerSessionId);
    const first = await receiver.next();
    await call(sandbox, 'POST', `/v1/test/events/${first.headers['webhook-id']}/redeliver`);
    expect((await receiver.next()).body).toBe(first.body);
  }));

test('a burst is delivered whole, sixteen at a time at most', () =>
  withWorld(async ({ startSandbox }) => {
    let open = 0;
    let mostOpen = 0;
    const seen = new Set<unknown>();
    const slow = createServer((request, response) => {
      open += 1;
      mostOpen = Math.max(mostOpen, open);
      request.resume().on('end', () =>
        setImmediate(() => {
          open -= 1;
          seen.add(request.headers['webhook-id']);
          response.writeHead(204).end();
          if (seen.size === 100) slow.emit('all seen');
        }),
      );
    }).listen(0, '127.0.0.1');
    const allSeen = once(slow, 'all seen');
    await once(slow, 'listening');
    try {
      const address = slow.address();
      const port = typeof address === 'object' ? address?.port : undefined;
      const sandbox = await startSandbox({ webhookUrl: `http://127.0.0.1:${port}/` });
      await Promise.all(
        Array.from({ length: 100 }, (_, nth) =>
          call(sandbox, 'POST', '/v1/test/payments', {
            body: { reference: `r${nth}`, amount: 1, currency: 'EUR' },
          }),
        ),
      );
      await allSeen;
      expect(mostOpen).toBeLessThanOrEqual(16);
      await sandbox.stop();
    } finally {
      slow.close();
    }
  }));

test('a forged notice is refused, with the cause kept', () => {
  const body = buildNotice();
  for (const headers of [
    sign(body, OTHER_SECRET),
    sign(body.replace('12345', '1')),
    { ...sign(body), 'webhook-id': 'evt_2' },
    { ...sign(body), 'webhook-signature': 'v1,' },
    { ...sign(body), 'webhook-signature': 'nonsense' },
    {},
  ]) {
    expect(() => provider.verifyNotice(body, headers)).toThrow(InvalidSignatureError);
  }
  expect(() => provider.verifyNotice(body, {})).toThrow(
    expect.objectContaining({ cause: expect.objectContaining({ name: 'WebhookVerificationError' }) }),
  );
});

test('a notice signed more than five minutes ago, or in the future, is refused', () => {
  const body = buildNotice();
  for (const minutes of [-6, 6]) {
    const sentAt = new Date(Date.now() + minutes * 60_000);
    expect(() => provider.verifyNotice(body, sign(body, SECRET, sentAt))).toThrow(InvalidSignatureError);
  }
});

test('while a secret is being replaced, a notice under either is taken', () => {
  const rotating = connect({ url: 'http://127.0.0.1:9' }, [OTHER_SECRET, SECRET]);
  const body = buildNotice();
  for (const secret of [SECRET, OTHER_SECRET]) {
    expect(rotating.verifyNotice(body, sign(body, secret))).toMatchObject({ kind: 'payment_succeeded' });
  }
});

test('the names of the headers may come in any case', () => {
  const body = buildNotice();
  const headers = Object.fromEntries(
    Object.entries(sign(body)).map(([name, value]) => [name.toUpperCase(), value]),
  );
  expect(provider.verifyNotice(body, headers)).toMatchObject({ eventId: 'evt_1' });
});

test('an authentic notice that moves no money is ignored', () => {
  const body = JSON.stringify({ type: 'payout.created', data: {} });
  expect(provider.verifyNotice(body, sign(body))).toEqual({
    kind: 'ignored',
    eventId: 'evt_1',
    type: 'payout.created',
  });
});

test('an authentic notice of an unknown shape is malformed, not forged', () => {
  for (const body of ['', 'not json', '[]', '{"type":1}', buildNotice({ data: { amount: '12.00' } })]) {
    expect(() => provider.verifyNotice(body, sign(body))).toThrow(MalformedNoticeError);
  }
});

test('an adapter without a webhook secret, or with three, does not start', () => {
  const options = {
    name: 'sandbox' as const,
    baseUrl: 'http://127.0.0.1:9',
    apiKey: 'k',
    deployment: 'holdfast',
    requestTimeoutMs: 1,
  };
  for (const webhookSecrets of [[], [SECRET, SECRET, SECRET]]) {
    expect(() => createRemoteAdapter({ ...options, webhookSecrets })).toThrow('one webhook secret');
  }
});
