/** Orders whose workflow is started or signalled again after it has ended, on the real server. */

import { defaultPayloadConverter, WorkflowNotFoundError } from '@temporalio/common';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import type { OrderState } from '../../src/orders/order.ts';
import { buildOrder } from '../support/factories.ts';
import { waitFor } from '../support/wait.ts';
import { openRelayEngine, type TestEngine } from '../support/workflows/engines.ts';
import { createNamespace } from '../support/workflows/temporal.ts';

const STORED: OrderState = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };
const WINDOW_ENDS_AT_MS = 1_800_000_000_000;

let temporal: TestEngine;
beforeAll(async () => {
  // No worker runs in it, so each workflow ends by hand alone.
  temporal = await openRelayEngine(await createNamespace());
});
afterAll(() => temporal.close());

/** The id of the newest run of its workflow, and what it was started with beside the order. */
async function newestRunOf({ orderNo }: Order) {
  const handle = temporal.client.workflow.getHandle(orderNo);
  const { runId, status } = await handle.describe();
  const { events } = await handle.fetchHistory();
  const payloads = events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads ?? [];
  const [, ...rest] = payloads.map((payload): unknown => defaultPayloadConverter.fromPayload(payload));
  return { runId, status: status.name, rest };
}

test('an order whose workflow runs is not started again', async () => {
  const { engine } = temporal;
  const order = buildOrder();
  await engine.start(order, STORED);
  const first = await newestRunOf(order);

  await engine.start(order, STORED, WINDOW_ENDS_AT_MS);

  expect(await newestRunOf(order)).toEqual(first);
  expect(first).toMatchObject({ status: 'RUNNING', rest: [STORED] });
});

test('an order whose workflow has ended is started again: it looks into MySQL first, and has what is left of its window', async () => {
  const { engine, client } = temporal;
  const order = buildOrder();
  await engine.start(order, STORED);
  const first = await newestRunOf(order);
  await client.workflow.getHandle(order.orderNo).terminate();
  expect(await engine.isRunning(order.orderNo)).toBe(false);

  await engine.start(order, STORED, WINDOW_ENDS_AT_MS);

  const second = await newestRunOf(order);
  expect(second.runId).not.toBe(first.runId);
  expect(second).toMatchObject({
    status: 'RUNNING',
    rest: [undefined, { endsAtMs: WINDOW_ENDS_AT_MS }],
  });
  expect(await engine.isRunning(order.orderNo)).toBe(true);
});

test('a cancel request starts a workflow that has ended again, with what is left of its window', async () => {
  const { engine, client } = temporal;
  const order = buildOrder();
  await engine.start(order, STORED);
  await client.workflow.getHandle(order.orderNo).terminate();

  await engine.signalCancelRequested(order, WINDOW_ENDS_AT_MS);

  expect(await newestRunOf(order)).toMatchObject({
    status: 'RUNNING',
    rest: [undefined, { endsAtMs: WINDOW_ENDS_AT_MS }],
  });
});

test('the list of running workflows has those of many ids that run, and no other', async () => {
  const { engine, client } = temporal;
  const orders = Array.from({ length: 130 }, () => buildOrder());
  const [ended, absent, ...running] = orders;
  for (const order of [...running, ended]) if (order) await engine.start(order, STORED);
  await client.workflow.getHandle(ended?.orderNo ?? '').terminate();
  const list = () => engine.listRunning(orders.map(({ orderNo }) => orderNo));

  // It follows a second late.
  await waitFor('all that run', async () => (await list()).size === running.length);

  expect(await list()).toEqual(new Set(running.map(({ orderNo }) => orderNo)));
  expect(await engine.isRunning(absent?.orderNo ?? '')).toBe(false);
});

test('a workflow that was never started does not run', async () => {
  expect(await temporal.engine.isRunning(buildOrder().orderNo)).toBe(false);
});

test.each([
  ['paid', 'paymentReceived'],
  ['cancelled', 'cancelRequested'],
] as const)(
  'a workflow whose order was %s without it is told, and none is started for that',
  async (status, signal) => {
    const { engine, client } = temporal;
    const [running, ended, unknown] = [buildOrder(), buildOrder(), buildOrder()];
    await engine.start(running, STORED);
    await engine.start(ended, STORED);
    await client.workflow.getHandle(ended.orderNo).terminate();

    const told = [];
    for (const { orderNo } of [running, ended, unknown])
      told.push(await engine.signalEnded(orderNo, { status }));

    expect(told).toEqual([true, false, false]);
    const { events } = await client.workflow.getHandle(running.orderNo).fetchHistory();
    const signals = (events ?? []).flatMap((event) => {
      const name = event.workflowExecutionSignaledEventAttributes?.signalName;
      return name === undefined || name === null ? [] : [name];
    });
    expect(signals).toEqual([signal]);
    expect(await engine.isRunning(ended.orderNo)).toBe(false);
    await expect(client.workflow.getHandle(unknown.orderNo).describe()).rejects.toThrow(
      WorkflowNotFoundError,
    );
  },
);
