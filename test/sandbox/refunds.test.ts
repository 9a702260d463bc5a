/** Refunds and disputes at the sandbox provider, and how the shop's adapter reads them. */

import { expect, test } from 'vitest';
import type { ListedPayment, Reversal } from '../../src/money/payment.ts';
import {
  RefundRefusedError,
  type PaymentProvider,
  type RefundRequest,
} from '../../src/providers/provider.ts';
import { reversalReplySchema } from '../../src/providers/remote-wire.ts';
import {
  buildSessionRequest,
  call,
  connect,
  listCollected,
  pay,
  setMischief,
  takePayment,
  withWorld,
} from './sandbox-world.ts';

function buildRefund(providerPaymentId: string, overrides: Partial<RefundRequest> = {}): RefundRequest {
  return { refundKey: 'refund-1-0', providerPaymentId, amount: 12_345, currency: 'SGD', ...overrides };
}

async function list(provider: PaymentProvider): Promise<ListedPayment[]> {
  const payments: ListedPayment[] = [];
  for await (const payment of provider.listPayments()) payments.push(payment);
  return payments;
}

test('a refund is made once under its key, listed, and reported by a callback', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    const paymentId = await takePayment(sandbox);
    await receiver.next();
    const refund = await adapter.refund(buildRefund(paymentId));
    expect(refund).toEqual({
      kind: 'refund',
      providerReversalId: expect.stringMatching(/^re_/),
      providerPaymentId: paymentId,
      amount: 12_345,
      currency: 'SGD',
      status: 'succeeded',
    });
    expect(await adapter.refund(buildRefund(paymentId))).toEqual(refund);
    expect(await adapter.listReversals(paymentId)).toEqual([refund]);
    const { body, headers } = await receiver.next();
    expect(adapter.verifyNotice(body, headers)).toEqual({
      kind: 'payment_reversed',
      eventId: headers['webhook-id'],
      reversal: refund,
    });
    await sandbox.stop();
    expect(receiver.waiting()).toBe(0);
  }));

test('a refund needs an Idempotency-Key, an API key and a payment that there is', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const body = { payment_id: 'pay_none', amount: 1, currency: 'SGD' };
    const headers = { 'idempotency-key': 'k' };
    const attempts = [
      await call(sandbox, 'POST', '/v1/refunds', { body }),
      await call(sandbox, 'POST', '/v1/refunds', {
        body,
        headers: { ...headers, authorization: 'Bearer x' },
      }),
      await call(sandbox, 'POST', '/v1/refunds', { body: { ...body, amount: 0 }, headers }),
      await call(sandbox, 'POST', '/v1/refunds', { body, headers }),
      await call(sandbox, 'GET', '/v1/reversals'),
      await call(sandbox, 'GET', '/v1/reversals?payment_id=pay_none'),
    ];
    expect(attempts.map(({ status }) => status)).toEqual([400, 401, 400, 404, 400, 404]);
  }));

test('the adapter distinguishes a refusal from an unknown outcome', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    const paymentId = await takePayment(sandbox);
    const refused = adapter.refund(buildRefund(paymentId, { currency: 'EUR' }));
    await expect(refused).rejects.toThrow(RefundRefusedError);
    await expect(refused).rejects.toMatchObject({
      refusal: { code: 'currency_mismatch', message: 'The payment has another currency' },
      isForGood: true,
    });
    await setMischief(sandbox, { refund_refused: 1 });
    await expect(adapter.refund(buildRefund(paymentId))).rejects.toMatchObject({
      refusal: { code: 'refund_refused', message: 'The refund was refused' },
      isForGood: false,
    });
    await expect(adapter.refund(buildRefund('pay_none'))).rejects.toThrow('404 (not_found)');
    await expect(adapter.listReversals('pay_none')).rejects.toThrow('404 (not_found)');
    await sandbox.stop();
    const lost = await adapter.refund(buildRefund(paymentId)).catch((error: unknown) => error);
    expect(lost).not.toBeInstanceOf(RefundRefusedError);
    await expect(adapter.listReversals(paymentId)).rejects.toThrow('fetch failed');
  }));

test('other terms under a used key are refused with 422', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const paymentId = await takePayment(sandbox);
    const refund = (amount: number) =>
      call(sandbox, 'POST', '/v1/refunds', {
        body: { payment_id: paymentId, amount, currency: 'SGD' },
        headers: { 'idempotency-key': 'key-1' },
      });
    expect([(await refund(100)).status, (await refund(100)).status]).toEqual([201, 200]);
    expect(await refund(101)).toMatchObject({ status: 422, body: { code: 'idempotency_key_reused' } });
    const adapter = connect(sandbox);
    const again = adapter.refund(buildRefund(paymentId, { refundKey: 'key-1' }));
    await expect(again).rejects.toThrow(RefundRefusedError);
    expect(await adapter.listReversals(paymentId)).toMatchObject([{ amount: 100 }]);
  }));

test('no more goes back than was taken, in however many parts', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    const paymentId = await takePayment(sandbox);
    await adapter.refund(buildRefund(paymentId, { refundKey: 'a', amount: 12_000 }));
    const tooMuch = adapter.refund(buildRefund(paymentId, { refundKey: 'b', amount: 346 }));
    await expect(tooMuch).rejects.toThrow('refund_exceeds_payment');
    await expect(tooMuch).rejects.toThrow(RefundRefusedError);
    // It was no outcome of the key, so the key is free for what is left.
    await adapter.refund(buildRefund(paymentId, { refundKey: 'b', amount: 345 }));
    const left = await call(sandbox, 'POST', `/v1/test/payments/${paymentId}/refund`);
    expect(left).toMatchObject({ status: 409, body: { code: 'refund_exceeds_payment' } });
    expect(await listCollected(sandbox)).toMatchObject([{ returned: 12_345 }]);
  }));

test('a payment is refunded in a hundred parts at most', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    const paymentId = await takePayment(sandbox);
    for (let nth = 0; nth < 100; nth += 1) {
      await adapter.refund(buildRefund(paymentId, { refundKey: `k-${nth}`, amount: 1 }));
    }
    const more = adapter.refund(buildRefund(paymentId, { refundKey: 'k-100', amount: 1 }));
    await expect(more).rejects.toThrow('too_many_refunds');
    expect(await adapter.listReversals(paymentId)).toHaveLength(100);
  }));

test('a refund made by provider staff is listed and reported', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    const paymentId = await takePayment(sandbox);
    await receiver.next();
    await call(sandbox, 'POST', `/v1/test/payments/${paymentId}/refund`, { body: { amount: 45 } });
    await call(sandbox, 'POST', `/v1/test/payments/${paymentId}/refund`);
    const refunds = await adapter.listReversals(paymentId);
    expect(refunds).toMatchObject([
      { amount: 45, status: 'succeeded' },
      { amount: 12_300, status: 'succeeded' },
    ]);
    const notices = [await receiver.next(), await receiver.next()];
    const reported = notices.map(({ body, headers }) => adapter.verifyNotice(body, headers));
    expect(reported).toEqual(
      expect.arrayContaining(
        refunds.map((reversal) => expect.objectContaining({ kind: 'payment_reversed', reversal })),
      ),
    );
  }));

test('a refund may fail after it succeeded: it is reported, its key keeps it, and another key refunds anew', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    const paymentId = await takePayment(sandbox);
    await receiver.next();
    const refund = await adapter.refund(buildRefund(paymentId));
    await receiver.next();
    const failing = `/v1/test/refunds/${refund.providerReversalId}/fail`;
    expect((await call(sandbox, 'POST', failing)).body).toMatchObject({ status: 'failed' });
    const failed = { ...refund, status: 'failed' };
    const { body, headers } = await receiver.next();
    expect(adapter.verifyNotice(body, headers)).toMatchObject({ reversal: failed });
    expect(await adapter.refund(buildRefund(paymentId))).toEqual(failed);
    expect(await listCollected(sandbox)).toMatchObject([{ returned: 0 }]);
    // Failing twice is no second event.
    await call(sandbox, 'POST', failing);
    const anew = await adapter.refund(buildRefund(paymentId, { refundKey: 'refund-1-1' }));
    expect(await adapter.listReversals(paymentId)).toEqual([failed, anew]);
    await receiver.next();
    await sandbox.stop();
    expect(receiver.waiting()).toBe(0);
  }));

test.each([
  ['won', true, 'failed', 0],
  ['lost', false, 'succeeded', 12_345],
] as const)('a dispute is reported when it is opened and when it is %s', (_, won, status, returned) =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    const paymentId = await takePayment(sandbox);
    await receiver.next();
    const opened = await call(sandbox, 'POST', `/v1/test/payments/${paymentId}/dispute`);
    expect(opened).toMatchObject({ status: 201, body: { status: 'pending', amount: 12_345 } });
    const first = await receiver.next();
    const notice = adapter.verifyNotice(first.body, first.headers);
    if (notice.kind !== 'payment_reversed') throw new Error(`not a reversal: ${notice.kind}`);
    const { reversal } = notice;
    expect(reversal).toEqual({
      kind: 'dispute',
      providerReversalId: expect.stringMatching(/^dp_/),
      providerPaymentId: paymentId,
      amount: 12_345,
      currency: 'SGD',
      status: 'pending',
      asOfMs: expect.any(Number),
    });
    // What the payer's bank holds cannot be refunded, and is not returned yet.
    await expect(adapter.refund(buildRefund(paymentId))).rejects.toThrow('refund_exceeds_payment');
    expect(await list(adapter)).toMatchObject([{ totals: { succeeded: 0, isDisputed: true } }]);
    const asListed = { ...reversal, asOfMs: expect.any(Number) };
    expect(await adapter.listReversals(paymentId)).toEqual([asListed]);

    const closing = `/v1/test/disputes/${reversal.providerReversalId}/close`;
    expect((await call(sandbox, 'POST', closing, { body: { won } })).body).toMatchObject({ status });
    const second = await receiver.next();
    expect(adapter.verifyNotice(second.body, second.headers)).toMatchObject({
      kind: 'payment_reversed',
      reversal: { ...asListed, status },
    });
    expect(await list(adapter)).toMatchObject([{ totals: { succeeded: returned, isDisputed: false } }]);
    expect(await adapter.listReversals(paymentId)).toEqual([{ ...asListed, status }]);
    expect(await call(sandbox, 'POST', closing, { body: { won } })).toMatchObject({
      status: 409,
      body: { code: 'dispute_closed' },
    });
  }),
);

test('a dispute that was won opens again and is lost: each notice is later than the one before, and so is the list', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    const paymentId = await takePayment(sandbox);
    await receiver.next();
    const { body: opened } = await call(sandbox, 'POST', `/v1/test/payments/${paymentId}/dispute`);
    const dispute = `/v1/test/disputes/${reversalReplySchema.parse(opened).id}`;
    const notices: Reversal[] = [];
    const read = async (): Promise<void> => {
      const { body, headers } = await receiver.next();
      const notice = adapter.verifyNotice(body, headers);
      if (notice.kind !== 'payment_reversed') throw new Error(`not a reversal: ${notice.kind}`);
      notices.push(notice.reversal);
    };
    await read();
    for (const [change, body] of [
      ['close', { won: true }],
      ['reopen', {}],
      ['close', { won: false }],
    ] as const) {
      expect(await call(sandbox, 'POST', `${dispute}/${change}`, { body })).toMatchObject({ status: 200 });
      await read();
    }

    expect(notices.map(({ status }) => status)).toEqual(['pending', 'failed', 'pending', 'succeeded']);
    const times = notices.map(({ asOfMs = 0 }) => asOfMs);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(new Set(notices.map(({ providerReversalId }) => providerReversalId)).size).toBe(1);
    expect(await adapter.listReversals(paymentId)).toMatchObject([{ status: 'succeeded' }]);
    expect(await call(sandbox, 'POST', `${dispute}/reopen`)).toMatchObject({ body: { status: 'pending' } });
    expect(await call(sandbox, 'POST', `${dispute}/reopen`)).toMatchObject({
      status: 409,
      body: { code: 'dispute_open' },
    });
  }));

test('a dispute that was won does not open again for money that has gone back since', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    const paymentId = await takePayment(sandbox);
    const { body: opened } = await call(sandbox, 'POST', `/v1/test/payments/${paymentId}/dispute`);
    const dispute = `/v1/test/disputes/${reversalReplySchema.parse(opened).id}`;
    await call(sandbox, 'POST', `${dispute}/close`, { body: { won: true } });
    await adapter.refund(buildRefund(paymentId, { amount: 1 }));
    for (const [change, body] of [
      ['reopen', {}],
      ['close', { won: false }],
    ] as const)
      expect(await call(sandbox, 'POST', `${dispute}/${change}`, { body })).toMatchObject({
        status: 409,
        body: { code: 'refund_exceeds_payment' },
      });
  }));

test('the reversals of a payment are its refunds and its disputes', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    const paymentId = await takePayment(sandbox);
    const dispute = `/v1/test/payments/${paymentId}/dispute`;
    await call(sandbox, 'POST', dispute, { body: { amount: 45 } });
    const refund = await adapter.refund(buildRefund(paymentId, { amount: 300 }));
    expect(await adapter.listReversals(paymentId)).toEqual([
      refund,
      expect.objectContaining({
        kind: 'dispute',
        providerPaymentId: paymentId,
        amount: 45,
        status: 'pending',
      }),
    ]);
    expect(await list(adapter)).toMatchObject([{ totals: { succeeded: 300, isDisputed: true } }]);
  }));

test('the book lists what went back of each payment', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    const first = await takePayment(sandbox);
    const { providerSessionId } = await adapter.openSession(buildSessionRequest({ sessionId: 'session-2' }));
    await pay(sandbox, providerSessionId);
    await adapter.refund(buildRefund(first, { amount: 5 }));
    expect(await listCollected(sandbox)).toMatchObject([
      { providerPaymentId: first, returned: 5 },
      { returned: 0 },
    ]);
  }));
