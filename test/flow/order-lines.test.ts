/** What the log says of an order: at debug a line for each of its steps, at info nothing. */

import { expect, test } from 'vitest';
import { z } from 'zod';
import { openTestLog } from '../api/test-log.ts';
import { openCheckout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { waitFor } from '../support/wait.ts';
import { awaitStart } from '../support/workflows/start.ts';

const step = z.object({ orderNo: z.string(), step: z.string(), status: z.string().optional() });

/** Has one order paid and one cancelled. @returns what was written meanwhile */
async function sell(level: string) {
  const { log, lines } = openTestLog(level);
  const shop = await openCheckout({ log, under: (stores) => ({ ...stores, log }) });
  const { saleId } = await shop.stores.openSale(buildSale());
  const bought = await shop.buy(saleId);
  const { orderNo: paid } = bought;
  await awaitStart(shop.client, paid);
  await shop.pay(bought);
  const { orderNo: cancelled } = await shop.buyAndCancel(saleId);
  for (const orderNo of [paid, cancelled]) await shop.client.workflow.getHandle(orderNo).result();
  const stepsOf = (orderNo: string) =>
    lines().flatMap((line) => {
      const { data } = step.safeParse(line);
      return data?.orderNo === orderNo ? [[data.step, data.status].filter(Boolean).join(' → ')] : [];
    });
  return { paid, cancelled, stepsOf, lines };
}

test('at debug each step of an order is a line with its number', async () => {
  const { paid, cancelled, stepsOf } = await sell('debug');

  await waitFor('the last lines', () => stepsOf(paid).includes('markPaid → paid'));
  // Who stores an order and who begins its workflow differs with the moment.
  for (const orderNo of [paid, cancelled]) {
    expect(stepsOf(orderNo)).toContain('accept');
    expect(stepsOf(orderNo)).toContainEqual(
      expect.stringMatching(/^(?:store|persistOrder) → awaiting_payment$/),
    );
    expect(stepsOf(orderNo)).toContainEqual(expect.stringMatching(/^(?:start workflow|signal \w+)$/));
  }
  for (const line of ['open payment page', 'payment notice', 'signal payment'])
    expect(stepsOf(paid)).toContain(line);
  for (const line of ['request cancel', 'signal cancel', 'cancelOrder → cancelled'])
    expect(stepsOf(cancelled)).toContain(line);
});

test('at info nothing is written of an order', async () => {
  const { paid, cancelled, lines } = await sell('info');

  const written = JSON.stringify(lines());
  expect(written).not.toContain(paid);
  expect(written).not.toContain(cancelled);
});
