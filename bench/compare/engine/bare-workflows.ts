/**
 * The least that an order's workflow can be: started, two steps with a timer and a signal between them, and
 * done. With empty steps it is what the engine can do at best, with the real ones the reference.
 */

import { condition, defineSignal, proxyLocalActivities, setHandler } from '@temporalio/workflow';
import type { Order } from '../../../src/orders/content.ts';

export const bareSignal = defineSignal('paymentReceived');

export interface BareActivities {
  first: (input: Order) => Promise<unknown>;
  last: (input: Order) => Promise<unknown>;
}

const WINDOW_MS = 30 * 60_000;

const { first, last } = proxyLocalActivities<BareActivities>({ startToCloseTimeout: '3 seconds' });

export async function BareWorkflow(input: Order): Promise<void> {
  let isPaid = false;
  setHandler(bareSignal, () => {
    isPaid = true;
  });
  await first(input);
  await condition(() => isPaid, WINDOW_MS);
  await last(input);
}
