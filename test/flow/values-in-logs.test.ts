/** What shoppers send is in no line of the logs, whatever MySQL does to the statements that carry it. */

import { beforeAll, expect, test } from 'vitest';
import { openTestLog, type TestLog } from '../api/test-log.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { acceptedOf, refusalOf } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';

let logs: TestLog;
let checkout: Checkout;
beforeAll(async () => {
  logs = openTestLog();
  checkout = await openCheckout({ log: logs.log });
});

/** From now on MySQL refuses each new order with this error. @returns what ends that */
async function refuseOrders(errno: number, message: string): Promise<() => Promise<void>> {
  const { pool } = checkout.stores;
  await pool.query(
    `CREATE TRIGGER refuse_orders_${errno} BEFORE INSERT ON orders FOR EACH ROW
     SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = ${errno}, MESSAGE_TEXT = '${message}'`,
  );
  return async () => void (await pool.query(`DROP TRIGGER refuse_orders_${errno}`));
}

const [NOTE, AGENT] = ['for my grandmother', 'Grandfathers-Browser/7'];
const written = () => JSON.stringify(logs.lines());

test('orders that MySQL refuses, as read-only and by an error of its own, are in the log without their data', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const cart = { saleId, items: [{ sku: 'lamp', quantity: 1 }], metadata: { note: NOTE } };
  const agent = { 'user-agent': AGENT };

  const endReadOnly = await refuseOrders(1290, 'The server runs with the --read-only option');
  const { orderNo } = acceptedOf(await shopper.placeOrder(cart, agent));
  expect(refusalOf(await shopper.cancel(orderNo))).toBe('503 cancel_unavailable');
  await waitFor('the relay to fail', () => written().includes('a page of the outbox failed'));
  const endLock = await refuseOrders(1205, `Lock wait timeout exceeded for ''${NOTE}''`);
  // Not before: in between the relay would store the order.
  await endReadOnly();
  expect(refusalOf(await shopper.cancel(orderNo))).toBe('503 cancel_unavailable');
  await endLock();
  await shopper.awaitStatus(orderNo, 'awaiting_payment');

  expect(written()).toContain('INSERT INTO orders');
  expect(written()).toContain('"errno":1290');
  expect(written()).not.toContain(NOTE);
  expect(written()).not.toContain(AGENT);
});
