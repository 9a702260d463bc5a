/** Two deployments on one account of the sandbox provider: each sees its own payments. */

import { expect, test } from 'vitest';
import type { PaymentProvider } from '../../src/providers/provider.ts';
import { paymentsReplySchema } from '../../src/providers/remote-wire.ts';
import { createRemoteAdapter } from '../../src/providers/remote.ts';
import {
  API_KEY,
  buildSessionRequest,
  call,
  ORDER_NO,
  pay,
  SECRET,
  withWorld,
  type World,
} from '../sandbox/sandbox-world.ts';

/** Both deployments, and the notices that each of them gets. */
async function withTwo(
  use: (world: {
    ours: PaymentProvider;
    theirs: PaymentProvider;
    sandbox: { url: string };
    next: World['receiver']['next'];
  }) => Promise<void>,
): Promise<void> {
  await withWorld(async ({ startSandbox, receiver }) => {
    const sandbox = await startSandbox();
    const open = (deployment: string) =>
      createRemoteAdapter({
        name: 'sandbox',
        baseUrl: sandbox.url,
        apiKey: API_KEY,
        webhookSecrets: [SECRET],
        deployment,
        requestTimeoutMs: 60_000,
      });
    await use({ ours: open('ours'), theirs: open('theirs'), sandbox, next: receiver.next });
  });
}

async function list(provider: PaymentProvider): Promise<string[]> {
  const orderNos: string[] = [];
  for await (const { orderNo } of provider.listPayments()) orderNos.push(orderNo);
  return orderNos;
}

async function takeAt(provider: PaymentProvider, sandbox: { url: string }, orderNo: string): Promise<void> {
  const request = buildSessionRequest({ sessionId: `session-${orderNo}`, orderNo });
  await pay(sandbox, (await provider.openSession(request)).providerSessionId);
}

test('a payment is listed by the deployment that opened its session, and ignored by the other', () =>
  withTwo(async ({ ours, theirs, sandbox, next }) => {
    await takeAt(ours, sandbox, 'order-of-ours');
    await takeAt(theirs, sandbox, 'order-of-theirs');
    expect([await list(ours), await list(theirs)]).toEqual([['order-of-ours'], ['order-of-theirs']]);

    const { body, headers } = await next();
    expect(ours.verifyNotice(body, headers)).toMatchObject({ kind: 'payment_succeeded' });
    expect(theirs.verifyNotice(body, headers)).toMatchObject({ kind: 'ignored', type: 'payment.succeeded' });
  }));

test('what goes back of it is ignored by the other deployment, too', () =>
  withTwo(async ({ ours, theirs, sandbox, next }) => {
    await takeAt(ours, sandbox, ORDER_NO);
    await next();
    const { data } = paymentsReplySchema.parse((await call(sandbox, 'GET', '/v1/payments')).body);
    await call(sandbox, 'POST', `/v1/test/payments/${data[0]?.id}/refund`, { body: {} });

    const { body, headers } = await next();
    expect(ours.verifyNotice(body, headers)).toMatchObject({ kind: 'payment_reversed' });
    expect(theirs.verifyNotice(body, headers)).toMatchObject({ kind: 'ignored' });
  }));

test('a payment outside any session names no deployment, and is for both to look at', () =>
  withTwo(async ({ ours, theirs, sandbox }) => {
    const stray = { reference: 'rent', amount: 7, currency: 'EUR' };
    await call(sandbox, 'POST', '/v1/test/payments', { body: stray });
    expect([await list(ours), await list(theirs)]).toEqual([['rent'], ['rent']]);
  }));

test('payments are listed between two times', () =>
  withTwo(async ({ ours, sandbox }) => {
    const beforeMs = Date.now();
    await takeAt(ours, sandbox, ORDER_NO);
    const listed: number[] = [];
    for (const [sinceMs, untilMs] of [
      [0, beforeMs],
      [beforeMs, Date.now() + 1],
      [Date.now() + 1, undefined],
    ]) {
      let count = 0;
      for await (const _ of ours.listPayments(sinceMs, untilMs)) count += 1;
      listed.push(count);
    }
    expect(listed).toEqual([0, 1, 0]);
  }));
