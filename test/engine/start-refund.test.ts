/** Starts refund workflows on a real Temporal server, and signals those that run. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseOrderNo } from '../../src/orders/order.ts';
import { refundWorkflowId } from '../../src/workflows/contract.ts';
import { buildRefund } from '../support/factories.ts';
import { openEngine, type TestEngine } from '../support/workflows/engines.ts';
import { createNamespace } from '../support/workflows/temporal.ts';

let world: TestEngine;
beforeAll(async () => {
  world = await openEngine(await createNamespace());
});
afterAll(() => world.close());

const handleOf = (paymentId: number) =>
  world.client.workflow.getHandle(refundWorkflowId(buildRefund({ paymentId })));

async function countSignals(paymentId: number): Promise<number> {
  const { events } = await handleOf(paymentId).fetchHistory();
  const signals = events?.map(({ workflowExecutionSignaledEventAttributes: signal }) => signal?.signalName);
  return signals?.filter((name) => name === 'refundUpdated').length ?? 0;
}

test('a refund has a readable summary in the Web UI, and is found by its sale', async () => {
  const refund = buildRefund({ paymentId: 1 });
  await world.engine.startRefund(refund);
  const { type, searchAttributes, staticSummary } = await handleOf(1).describe();
  expect(type).toBe('RefundWorkflow');
  expect(searchAttributes['SaleId']).toEqual([parseOrderNo(refund.orderNo)?.saleId]);
  expect(await staticSummary()).toBe('Refund 49.00 EUR: order_ended');
});

test('money for an order number that we could not have made is refunded as well', async () => {
  await world.engine.startRefund(buildRefund({ paymentId: 2, orderNo: 'invoice 7', reason: null }));
  const { searchAttributes, staticSummary } = await handleOf(2).describe();
  expect(searchAttributes['SaleId']).toBeUndefined();
  expect(await staticSummary()).toBe('Refund 49.00 EUR: made at the provider');
});

test('a running refund is signalled that there is news; one that has ended runs again', async () => {
  const refund = buildRefund({ paymentId: 3 });
  await world.engine.startRefund(refund);
  const { runId } = await handleOf(3).describe();
  await world.engine.startRefund(refund);
  expect((await handleOf(3).describe()).runId).toBe(runId);
  expect(await countSignals(3)).toBe(2);

  await handleOf(3).terminate();
  await world.engine.startRefund(refund);
  expect((await handleOf(3).describe()).runId).not.toBe(runId);
});
