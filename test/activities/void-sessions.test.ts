/**
 * The step that closes an order's payment sessions before
 * a cancel, over the real stores and the sandbox provider.
 */

import { beforeAll, expect, test } from 'vitest';
import type { Activities } from '../../src/activities/index.ts';
import { LEAST_SESSION_MS } from '../../src/limits.ts';
import { modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import {
  ProviderBusyError,
  SessionRefusedError,
  type PaymentProvider,
} from '../../src/providers/provider.ts';
import { connect, pay, withWorld } from '../sandbox/sandbox-world.ts';
import { signer } from '../support/signer.ts';
import { AWAITING, noProvider, openStage, type Stage } from './stage.ts';

let stage: Stage;
beforeAll(async () => {
  stage = await openStage();
});

/** A stored order with a recorded session, and the provider to open it at. */
function withSession(
  use: (stage: {
    order: Order;
    steps: Activities;
    /** At the provider; recorded here only where the test does so. */
    providerSession: { providerSessionId: string; url: string };
    writeDown: (expiry?: { expiresAtMs: number }) => Promise<boolean>;
    pay: () => Promise<{ status: number; body: unknown }>;
    provider: PaymentProvider;
  }) => Promise<void>,
): Promise<void> {
  return withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const provider = connect(sandbox);
    const steps = stage.openSteps(provider);
    const order = await stage.storeOrder(steps);
    const begun = await stage.stores.paymentSessions.begin(provider.name, order.orderNo, signer.sign);
    if (begun.kind !== 'begun') throw new Error(`no session: ${begun.kind}`);
    const { session } = begun;
    const opened = await provider.openSession(session);
    await use({
      order,
      steps,
      provider,
      providerSession: opened,
      writeDown: (expiry) =>
        stage.stores.paymentSessions.recordOpened(session.sessionId, { ...opened, ...expiry }),
      pay: () => pay(sandbox, opened.providerSessionId),
    });
  });
}

test('voidPaymentSessions closes the session at the provider: it takes no payment any more', () =>
  withSession(async ({ order, steps, writeDown, pay: payThere }) => {
    await writeDown();
    const { world } = await stage.twice(order, () => steps.voidPaymentSessions(order));
    expect(await stage.sessionStatuses(order)).toEqual(['voided']);
    expect(await payThere()).toMatchObject({ status: 409 });
    expect(world.stored).toEqual(AWAITING);
  }));

test('voidPaymentSessions finds that the shopper has paid meanwhile, which pays for the order in both stores', () =>
  withSession(async ({ order, steps, writeDown, pay: payThere }) => {
    await writeDown();
    await payThere();
    const { world } = await stage.twice(order, () => steps.voidPaymentSessions(order));
    const paid = { status: 'paid', version: 2, payment: 'applied', reason: null };
    expect(world).toMatchObject({ stored: paid, projected: paid, redis: { available: 9, held: 0, sold: 1 } });
    expect(await stage.sessionStatuses(order)).toEqual(['paid']);
    expect(await stage.paymentStatuses(order)).toEqual(['applied']);
  }));

test('voidPaymentSessions closes a session whose id at the provider was never recorded', () =>
  withSession(async ({ order, steps, pay: payThere }) => {
    await stage.twice(order, () => steps.voidPaymentSessions(order));
    expect(await stage.sessionStatuses(order)).toEqual(['voided']);
    expect(await payThere()).toMatchObject({ status: 409 });
  }));

test('voidPaymentSessions that died half-way finishes the next time', () =>
  withSession(async ({ order, steps, provider, providerSession, writeDown }) => {
    await writeDown();
    await provider.voidSession(providerSession.providerSessionId);
    expect(await stage.sessionStatuses(order)).toEqual(['open']);
    await steps.voidPaymentSessions(order);
    expect(await stage.sessionStatuses(order)).toEqual(['voided']);
  }));

test('voidPaymentSessions that died after the payment was recorded does not record it again', () =>
  withSession(async ({ order, steps, provider, providerSession, writeDown, pay: payThere }) => {
    await writeDown();
    await payThere();
    const outcome = await provider.voidSession(providerSession.providerSessionId);
    if (outcome.kind !== 'already_paid') throw new Error(outcome.kind);
    await stage.stores.payments.record(provider.name, outcome.payment);
    await steps.voidPaymentSessions(order);
    expect(await stage.paymentStatuses(order)).toEqual(['applied']);
    expect(await stage.sessionStatuses(order)).toEqual(['paid']);
  }));

test('voidPaymentSessions fails while the provider is away, and leaves the session to the next try', async () => {
  const steps = stage.openSteps();
  const order = await stage.storeOrder(steps);
  await stage.stores.paymentSessions.begin('sandbox', order.orderNo, signer.sign);
  await expect(steps.voidPaymentSessions(order)).rejects.toThrow('no provider here');
  expect(await stage.sessionStatuses(order)).toEqual(['opening']);
});

test('voidPaymentSessions of an order without a session asks no provider', async () => {
  const steps = stage.openSteps();
  const order = await stage.storeOrder(steps);
  await steps.voidPaymentSessions(order);
  expect(await stage.sessionStatuses(order)).toEqual([]);
});

test('voidPaymentSessions has nothing to close of a session that the provider refuses to open', async () => {
  const refuse = () => Promise.reject(new SessionRefusedError('expires too soon'));
  const steps = stage.openSteps({ ...noProvider, openSession: refuse });
  const order = await stage.storeOrder(steps);
  await stage.stores.paymentSessions.begin('none', order.orderNo, signer.sign);
  await stage.twice(order, () => steps.voidPaymentSessions(order));
  expect(await stage.sessionStatuses(order)).toEqual(['refused']);
});

test('voidPaymentSessions is repeated when the provider takes calls again, and not before', async () => {
  const busy = () => Promise.reject(new ProviderBusyError('too many calls', 7_000));
  const steps = stage.openSteps({ ...noProvider, openSession: busy });
  const order = await stage.storeOrder(steps);
  await stage.stores.paymentSessions.begin('none', order.orderNo, signer.sign);

  const failure = { type: 'ProviderBusy', nextRetryDelay: 7_000, nonRetryable: false };
  await expect(steps.voidPaymentSessions(order)).rejects.toMatchObject(failure);
  expect(await stage.sessionStatuses(order)).toEqual(['opening']);
});

/** The provider's list was compared by a walk that started then. */
const compareUntil = (complete: number) => {
  const walk = {
    at: complete,
    until: complete,
    startedAt: complete,
    failedFrom: null,
    finished: complete,
    complete,
  };
  return stage.stores.comparedBook.save('sandbox', 'near', walk);
};

test('voidPaymentSessions asks for nothing once the session has expired and all that was paid is known', () =>
  withSession(async ({ order, writeDown }) => {
    const expiresAtMs = Date.now() - 10 * 60_000;
    await writeDown({ expiresAtMs });
    await compareUntil(expiresAtMs + 5 * 60_000);
    const asking = stage.openSteps({ ...noProvider, name: 'sandbox' });
    await stage.twice(order, () => asking.voidPaymentSessions(order));
    expect(await stage.sessionStatuses(order)).toEqual(['voided']);
  }));

test('voidPaymentSessions asks about an expired session whose payment may not be known yet', () =>
  withSession(async ({ order, steps, writeDown, pay: payThere }) => {
    const expiresAtMs = Date.now() - 60_000;
    await payThere();
    await writeDown({ expiresAtMs });
    await compareUntil(expiresAtMs + 30_000);
    await steps.voidPaymentSessions(order);
    expect(await stage.sessionStatuses(order)).toEqual(['paid']);
  }));

test('voidPaymentSessions asks about one that lived longer than payments are looked back for', () =>
  withSession(async ({ order, steps, writeDown, pay: payThere }) => {
    const expiresAtMs = Date.now() - 10 * 60_000;
    await payThere();
    await writeDown({ expiresAtMs });
    await compareUntil(expiresAtMs + 5 * 60_000);
    const windowMs = await stage.stores.sales.longestPaymentWindowMs();
    await modify(stage.stores.pool, 'UPDATE payment_sessions SET created_at = ? WHERE order_no = ?', [
      new Date(expiresAtMs - Math.max(windowMs, LEAST_SESSION_MS) - 1_000),
      order.orderNo,
    ]);
    await steps.voidPaymentSessions(order);
    expect(await stage.sessionStatuses(order)).toEqual(['paid']);
    expect(await stage.paymentStatuses(order)).toEqual(['applied']);
  }));
