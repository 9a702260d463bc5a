/** What the sandbox charges: it is told by callbacks and by the book, where there is something to tell. */

import { expect, test } from 'vitest';
import { moneyNoticeSchema } from '../../src/providers/remote-wire.ts';
import { call, connect, listCollected, takePayment, withWorld } from './sandbox-world.ts';

test('a payment and a dispute have their fees, in callbacks, in the book and after a restart', () =>
  withWorld(async ({ receiver, bookFile, startSandbox }) => {
    const sandbox = await startSandbox({ bookFile, fees: { paidBasisPoints: 150, disputed: 1_500 } });
    const adapter = connect(sandbox);
    const paymentId = await takePayment(sandbox);
    const paid = await receiver.next();
    // 1.5 % of 123.45.
    expect(adapter.verifyNotice(paid.body, paid.headers)).toMatchObject({ payment: { fee: 185 } });
    await call(sandbox, 'POST', `/v1/test/payments/${paymentId}/dispute`, { body: { amount: 1_000 } });
    const disputed = await receiver.next();
    expect(adapter.verifyNotice(disputed.body, disputed.headers)).toMatchObject({
      reversal: { kind: 'dispute', amount: 1_000, fee: 1_500 },
    });
    await call(sandbox, 'POST', `/v1/test/payments/${paymentId}/refund`, { body: { amount: 500 } });
    await sandbox.stop();

    const again = await startSandbox({ bookFile });
    expect(await listCollected(again)).toMatchObject([{ providerPaymentId: paymentId, fee: 185 }]);
    const [refund, dispute] = await connect(again).listReversals(paymentId);
    expect([refund, dispute]).toMatchObject([{ kind: 'refund' }, { kind: 'dispute', fee: 1_500 }]);
    expect(refund).not.toHaveProperty('fee');
  }));

test('a sandbox that charges nothing tells no fee', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    await takePayment(sandbox);
    const { body, headers } = await receiver.next();
    expect(connect(sandbox).verifyNotice(body, headers)).not.toHaveProperty('payment.fee');
    expect((await listCollected(sandbox))[0]).not.toHaveProperty('fee');
  }));

test('a fee that cannot be read has no notice refused', () =>
  withWorld(async ({ receiver, startSandbox }) => {
    const sandbox = await startSandbox();
    await takePayment(sandbox);
    const { body } = await receiver.next();
    const odd = body.replace('"fee":null', '"fee":"1.85 SGD"');
    expect(odd).not.toBe(body);
    expect(moneyNoticeSchema.parse(JSON.parse(odd))).toMatchObject({ data: { fee: null } });
  }));
