/**
 * A restart of the sandbox provider loses nothing: refunds, settings, late money, slow refunds, held
 * callbacks.
 */

import { copyFile, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { RefundRefusedError } from '../../src/providers/provider.ts';
import {
  buildSessionRequest,
  call,
  connect,
  countStruck,
  listCollected,
  ORDER_NO,
  pay,
  rewriteBook,
  SIGNED_ORDER,
  setMischief,
  takePayment,
  withWorld,
} from './sandbox-world.ts';

const HOUR_MS = 3_600_000;

test('refunds, refusals and disputes are on disk the moment they are answered', () =>
  withWorld(async ({ startSandbox, bookFile }) => {
    const before = await startSandbox({ bookFile });
    const providerPaymentId = await takePayment(before);
    const refund = (sandbox: { url: string }, refundKey: string) =>
      connect(sandbox).refund({ refundKey, providerPaymentId, amount: 45, currency: 'SGD' });
    await setMischief(before, { refund_refused: 1 });
    await expect(refund(before, 'refused')).rejects.toThrow(RefundRefusedError);
    const made = await refund(before, 'made');
    await call(before, 'POST', `/v1/test/payments/${providerPaymentId}/refund`, { body: { amount: 100 } });
    await call(before, 'POST', `/v1/test/payments/${providerPaymentId}/dispute`, { body: { amount: 200 } });
    // What a kill would leave: the file as it is, without being closed.
    await copyFile(bookFile, `${bookFile}.killed`);
    const after = await startSandbox({ bookFile: `${bookFile}.killed` });
    const list = async (sandbox: { url: string }) =>
      (await connect(sandbox).listReversals(providerPaymentId)).map((one) => ({ ...one, asOfMs: 0 }));
    expect(await list(after)).toEqual(await list(before));
    expect(await call(after, 'GET', '/v1/payments')).toEqual(await call(before, 'GET', '/v1/payments'));
    expect(await refund(after, 'made')).toEqual(made);
    await expect(refund(after, 'refused')).rejects.toThrow('refund_refused');
    // The dispute is still open, so what it holds cannot go back.
    const rest = { refundKey: 'rest', providerPaymentId, amount: 12_001, currency: 'SGD' };
    await expect(connect(after).refund(rest)).rejects.toThrow('refund_exceeds_payment');
    await connect(after).refund({ ...rest, refundKey: 'less', amount: 12_000 });
  }));

test('the settings and their counts survive a restart', () =>
  withWorld(async ({ startSandbox, bookFile }) => {
    const before = await startSandbox({ bookFile });
    await setMischief(before, { wrong_amount: 1, drop: 0.5, seed: 9 });
    await takePayment(before);
    const shown = await call(before, 'GET', '/v1/test/mischief');
    expect(await countStruck(before)).toMatchObject({ wrong_amount: 1 });
    await before.stop();
    const after = await startSandbox({ bookFile });
    expect(await call(after, 'GET', '/v1/test/mischief')).toEqual(shown);
  }));

test('the seed goes on where it was before the restart', () =>
  withWorld(async ({ startSandbox, bookFile }) => {
    const stray = { reference: 'x', amount: 1, currency: 'EUR' };
    const countDrops = async (restartAfter: number, file: string): Promise<number[]> => {
      let sandbox = await startSandbox({ bookFile: file });
      await setMischief(sandbox, { drop: 0.5, seed: 11 });
      const drops: number[] = [];
      for (let nth = 0; nth < 12; nth += 1) {
        if (nth === restartAfter) {
          await sandbox.stop();
          sandbox = await startSandbox({ bookFile: file });
        }
        await call(sandbox, 'POST', '/v1/test/payments', { body: stray });
        drops.push((await countStruck(sandbox)).drop);
      }
      return drops;
    };
    const unbroken = await countDrops(12, bookFile);
    expect(await countDrops(5, `${bookFile}.2`)).toEqual(unbroken);
    expect(new Set(unbroken).size).toBeGreaterThan(2);
  }));

test.each([
  ['voided', { dueAtMs: 1 }, true],
  ['expired', { dueAtMs: 1, expiresAtMs: 1 }, false],
] as const)('a late payment comes after a restart, though its session is %s', (_, times, isVoided) =>
  withWorld(async ({ receiver, startSandbox, bookFile }) => {
    const before = await startSandbox({ bookFile });
    await setMischief(before, { late: 1, late_ms: HOUR_MS });
    const { providerSessionId } = await connect(before).openSession(buildSessionRequest());
    await pay(before, providerSessionId);
    if (isVoided) {
      expect(await connect(before).voidSession(providerSessionId)).toEqual({ kind: 'voided' });
    }
    await before.stop();
    await rewriteBook(bookFile, times);

    const after = await startSandbox({ bookFile });
    const { body, headers } = await receiver.next();
    const payment = {
      providerPaymentId: expect.stringMatching(/^pay_/),
      orderNo: ORDER_NO,
      amount: 12_345,
      currency: 'SGD',
      signedOrder: SIGNED_ORDER,
    };
    expect(connect(after).verifyNotice(body, headers)).toMatchObject({ kind: 'payment_succeeded', payment });
    expect(await connect(after).voidSession(providerSessionId)).toEqual({ kind: 'already_paid', payment });
    await after.stop();

    // It is taken once, however often the sandbox starts.
    const third = await startSandbox({ bookFile });
    expect(await listCollected(third)).toHaveLength(1);
    await third.stop();
    expect(receiver.waiting()).toBe(0);
  }),
);

test('a late payment that is not due yet stays promised over a restart', () =>
  withWorld(async ({ startSandbox, bookFile }) => {
    const before = await startSandbox({ bookFile });
    await setMischief(before, { late: 1, late_ms: HOUR_MS });
    const { providerSessionId } = await connect(before).openSession(buildSessionRequest());
    await pay(before, providerSessionId);
    await before.stop();
    const after = await startSandbox({ bookFile });
    expect(await pay(after, providerSessionId)).toMatchObject({ body: { status: 'processing' } });
    expect(await call(after, 'GET', '/v1/payments')).toMatchObject({ body: { data: [] } });
  }));

test('a slow refund comes to its end after a restart', () =>
  withWorld(async ({ receiver, startSandbox, bookFile }) => {
    const before = await startSandbox({ bookFile });
    const providerPaymentId = await takePayment(before);
    await setMischief(before, { slow_refund: 1, slow_refund_ms: HOUR_MS });
    const request = { refundKey: 'a', providerPaymentId, amount: 12_345, currency: 'SGD' };
    const pending = await connect(before).refund(request);
    expect(pending.status).toBe('pending');
    await receiver.next();
    await receiver.next();
    await before.stop();
    await rewriteBook(bookFile, { dueAtMs: 1 });

    const after = await startSandbox({ bookFile });
    const { body, headers } = await receiver.next();
    const succeeded = { ...pending, status: 'succeeded' };
    expect(connect(after).verifyNotice(body, headers)).toMatchObject({ reversal: succeeded });
    expect(await connect(after).refund(request)).toEqual(succeeded);
  }));

test('a held-back callback whose time came during a restart is sent after it', () =>
  withWorld(async ({ receiver, startSandbox, bookFile }) => {
    const before = await startSandbox({ bookFile });
    await setMischief(before, { reorder: 1, reorder_ms: HOUR_MS });
    await takePayment(before);
    await before.stop();
    expect(receiver.waiting()).toBe(0);
    await rewriteBook(bookFile, { delayMs: 1 });
    await startSandbox({ bookFile });
    expect((await receiver.next()).body).toContain('payment.succeeded');
  }));

test('a book from before there were signed orders and mischief is read', () =>
  withWorld(async ({ receiver, startSandbox, bookFile }) => {
    const money = { reference: ORDER_NO, amount: 5, currency: 'SGD', createdAtMs: 1 };
    const session = { ...money, id: 'ps_1', idempotencyKey: 'k', expiresAtMs: 2 };
    const payment = { ...money, id: 'pay_1', sessionId: 'ps_1', eventId: 'evt_1' };
    const event = { ...money, id: 'evt_1', type: 'payment.succeeded', paymentId: 'pay_1', sessionId: 'ps_1' };
    const lines = [
      { kind: 'session_opened', session },
      { kind: 'payment_taken', payment, event },
    ];
    await writeFile(bookFile, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    const sandbox = await startSandbox({ bookFile });
    const { body, headers } = await receiver.next();
    const taken = { providerPaymentId: 'pay_1', amount: 5, signedOrder: null };
    expect(connect(sandbox).verifyNotice(body, headers)).toMatchObject({ payment: taken });
    expect(await listCollected(sandbox)).toMatchObject([{ ...taken, returned: 0 }]);
  }));
