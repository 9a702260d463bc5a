/** Mischief with money: wrong amounts, late payments, refunds that are refused or slow. */

import { expect, test } from 'vitest';
import { RefundRefusedError } from '../../src/providers/provider.ts';
import {
  buildSessionRequest,
  call,
  connect,
  countStruck,
  listCollected,
  pay,
  setMischief,
  takePayment,
  withWorld,
} from './sandbox-world.ts';

const HOUR_MS = 3_600_000;

test('a wrong amount is one minor unit less, and never nothing', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    await setMischief(sandbox, { wrong_amount: 1 });
    await takePayment(sandbox);
    const { body, headers } = await receiver.next();
    expect(connect(sandbox).verifyNotice(body, headers)).toMatchObject({ payment: { amount: 12_344 } });
    await takePayment(sandbox, { sessionId: 'session-2', amount: 1 });
    expect(await listCollected(sandbox)).toMatchObject([{ amount: 12_344 }, { amount: 1 }]);
    expect(await countStruck(sandbox)).toMatchObject({ wrong_amount: 1 });
  }));

test('a late payment is processing until it is taken', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    await setMischief(sandbox, { late: 1, late_ms: HOUR_MS });
    const { providerSessionId, url } = await connect(sandbox).openSession(buildSessionRequest());
    const processing = { status: 202, body: { status: 'processing', payment_id: null } };
    expect(await pay(sandbox, providerSessionId)).toMatchObject(processing);
    expect(await pay(sandbox, providerSessionId)).toMatchObject(processing);
    const failing = await call(sandbox, 'POST', `/v1/payment_sessions/${providerSessionId}/fail`);
    expect(failing).toMatchObject({ status: 409, body: { code: 'payment_processing' } });
    const page = await (await fetch(url, { headers: { accept: 'text/html' } })).text();
    expect(page).toContain('<strong>Processing.</strong>');
    expect(page).not.toContain('<form');
    expect(await connect(sandbox).voidSession(providerSessionId)).toEqual({ kind: 'voided' });
    expect(await pay(sandbox, providerSessionId)).toMatchObject(processing);
    expect(await call(sandbox, 'GET', '/v1/payments')).toMatchObject({ body: { data: [] } });
    expect(await countStruck(sandbox)).toMatchObject({ late: 1 });
  }));

test('a late payment is taken in its time', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    await setMischief(sandbox, { late: 1, late_ms: 30 });
    const { providerSessionId } = await adapter.openSession(buildSessionRequest());
    await pay(sandbox, providerSessionId);
    const { body, headers } = await receiver.next();
    const notice = adapter.verifyNotice(body, headers);
    if (notice.kind !== 'payment_succeeded') throw new Error(`no payment: ${notice.kind}`);
    expect(await adapter.voidSession(providerSessionId)).toEqual({
      kind: 'already_paid',
      payment: notice.payment,
    });
  }));

test('the first refund of a payment is refused, and its key stays refused', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    await setMischief(sandbox, { refund_refused: 1 });
    const providerPaymentId = await takePayment(sandbox);
    const refund = (refundKey: string, amount = 12_345) =>
      adapter.refund({ refundKey, providerPaymentId, amount, currency: 'SGD' });
    await expect(refund('refund-1-0')).rejects.toThrow(RefundRefusedError);
    await expect(refund('refund-1-0')).rejects.toThrow('refund_refused');
    await expect(refund('refund-1-0', 1)).rejects.toThrow('idempotency_key_reused');
    expect(await adapter.listReversals(providerPaymentId)).toEqual([]);
    const made = await refund('refund-1-1');
    expect(await adapter.listReversals(providerPaymentId)).toEqual([made]);
    await expect(refund('refund-1-0')).rejects.toThrow('refund_refused');
    expect(await countStruck(sandbox)).toMatchObject({ refund_refused: 1 });
  }));

test('a slow refund is pending, counts as under way, and succeeds in its time', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    const adapter = connect(sandbox);
    const providerPaymentId = await takePayment(sandbox);
    await receiver.next();
    const request = { refundKey: 'a', providerPaymentId, amount: 345, currency: 'SGD' };
    await setMischief(sandbox, { slow_refund: 1, slow_refund_ms: HOUR_MS });
    expect(await adapter.refund(request)).toMatchObject({ status: 'pending' });
    const rest = { ...request, refundKey: 'b', amount: 12_001 };
    await expect(adapter.refund(rest)).rejects.toThrow('refund_exceeds_payment');
    expect(await listCollected(sandbox)).toMatchObject([{ returned: 0 }]);
    await receiver.next();

    await setMischief(sandbox, { slow_refund: 1, slow_refund_ms: 30 });
    const slow = await adapter.refund({ ...rest, amount: 12_000 });
    expect(slow.status).toBe('pending');
    const notices = [await receiver.next(), await receiver.next()];
    const reported = notices.map(({ body, headers }) => adapter.verifyNotice(body, headers));
    // Two deliveries may overtake each other.
    expect(reported).toEqual(
      expect.arrayContaining(
        ['pending', 'succeeded'].map((status) => expect.objectContaining({ reversal: { ...slow, status } })),
      ),
    );
    expect(await adapter.listReversals(providerPaymentId)).toMatchObject([
      { status: 'pending' },
      { ...slow, status: 'succeeded' },
    ]);
    expect(await countStruck(sandbox)).toMatchObject({ slow_refund: 2 });
  }));
