/** Temporal's data is deleted in the middle of a sale, while the worker runs: every open order ends right. */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { findFreePort } from '../../stack/processes/ports.ts';
import { locateTemporal, startTemporal } from '../../stack/servers/temporal.ts';
import { ageDeadline, endWindow } from '../support/ageing.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import { pressPay, sessionOf } from '../support/shopper.ts';
import { openTestProcesses } from '../support/test-processes.ts';
import { waitFor } from '../support/wait.ts';
import { awaitStart, describeIfStarted } from '../support/workflows/start.ts';

const LAMP_PRICE = 4_900;
const TIMEOUT_MS = 150_000;
const THREE = [1, 2, 3];

/** A server of its own, on a file. */
async function openTemporal() {
  const { processes, close } = await openTestProcesses(() => {});
  onTestFinished(close);
  const binary = await locateTemporal(() => {});
  const preferredPort = await findFreePort();
  const start = () => startTemporal({ processes, binary, preferredPort });
  const { address } = await start();
  return {
    address,
    kill: () => processes.kill('temporal'),
    /** On the same port. */
    async startEmpty(): Promise<void> {
      const file = join(processes.dataDir, 'temporal.db');
      await Promise.all(['', '-wal', '-shm'].map((end) => rm(`${file}${end}`, { force: true })));
      expect((await start()).address).toBe(address);
    },
  };
}

test(
  'after its data is deleted in mid-sale, orders are paid, cancelled and time out, and refunds reach the payer',
  async () => {
    const temporal = await openTemporal();
    let isAway = true;
    const shop = await openCheckout({
      worker: 'whole',
      reconcileEveryMs: 1_000,
      namespace: 'default',
      temporalAddress: temporal.address,
      inFront: (provider) => ({
        ...provider,
        refund: (request) => (isAway ? Promise.reject(new Error('away')) : provider.refund(request)),
      }),
    });
    const { stores, client, providerConsole } = shop;
    const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: LAMP_PRICE, total: 40, limitPerUser: null }];
    const { saleId } = await stores.openSale(buildSale({ skus }));
    const shopper = await shop.shopper();
    const buyThree = () => Promise.all(THREE.map(() => shopper.buy(saleId)));
    const runOf = async (orderNo: string) => (await client.workflow.getHandle(orderNo).describe()).runId;
    const awaitTimeout = async (orderNo: string) =>
      expect(await shopper.awaitStatus(orderNo, 'cancelled')).toMatchObject({ reason: 'payment_timeout' });
    const pay = async (orderNo: string) => pressPay(sessionOf(await shopper.pay(orderNo)).url);

    const [late = ''] = await buyThree();
    await awaitStart(client, late);
    await shopper.cancel(late);
    await shopper.awaitStatus(late, 'cancelled');
    await providerConsole.takeStrayPayment({ reference: late, amount: LAMP_PRICE });
    const [paid, cancelled, left] = [await buyThree(), await buyThree(), await buyThree()];
    for (const orderNo of [...paid, ...cancelled, ...left]) await awaitStart(client, orderNo);
    await waitFor('the schedule to be remembered', async () => {
      return (await stores.temporalNamespaces.read('default')) === 'made';
    });

    const runs = await Promise.all(left.map(runOf));

    await temporal.kill();
    const meanwhile = await buyThree();
    const unpaid = await buyThree();
    for (const orderNo of [...meanwhile, ...unpaid]) await shopper.awaitStatus(orderNo, 'awaiting_payment');
    // They end without a workflow.
    await ageDeadline(stores.pool, unpaid);
    for (const orderNo of unpaid) await awaitTimeout(orderNo);
    await pay(paid[0] ?? '');
    await shopper.cancel(cancelled[0] ?? '');
    await temporal.startEmpty();
    isAway = false;

    for (const orderNo of paid.slice(1)) await pay(orderNo);
    for (const orderNo of cancelled.slice(1)) await shopper.cancel(orderNo);
    for (const orderNo of meanwhile) await pay(orderNo);
    for (const orderNo of [...paid, ...meanwhile]) await shopper.awaitStatus(orderNo, 'paid');
    for (const orderNo of cancelled)
      expect(await shopper.awaitStatus(orderNo, 'cancelled')).toMatchObject({ reason: 'shopper_request' });
    for (const [i, orderNo] of left.entries()) {
      await waitFor(`${orderNo} to begin again`, async () => {
        const begun = await describeIfStarted(client, orderNo);
        return begun !== undefined && begun.runId !== runs[i];
      });
      await endWindow(client, orderNo);
      await awaitTimeout(orderNo);
    }
    await shop.awaitReturned({ orderNo: late });
    expect(await stores.temporalNamespaces.read('default')).toBe('made');
    expect(await select(stores.pool, 'SELECT kind, reference, reason FROM parked')).toEqual([]);
    await expectCleanAudit(shop);
  },
  2 * TIMEOUT_MS,
);
