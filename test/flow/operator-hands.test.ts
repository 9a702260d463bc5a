/** What an operator may do by hand to the workflows of a running sale: every order ends right unaided. */

import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { endWindow } from '../support/ageing.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { readRefundWorkflowId } from '../support/refund-workflow.ts';
import { select } from '../support/rows.ts';
import { pressPay, sessionOf, type Shopper } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';
import { describeIfStarted } from '../support/workflows/start.ts';

const LAMP_PRICE = 4_900;
const TIMEOUT_MS = 150_000;
/** The reconciliation starts again what has lost its workflow. */
const WHOLE = { worker: 'whole', reconcileEveryMs: 1_000 } as const;
const TEN = Array.from({ length: 10 }, (_, i) => i);

type Hand = (shop: Checkout, orderNo: string, i: number) => Promise<unknown>;

const terminate: Hand = ({ client }, orderNo) => client.workflow.getHandle(orderNo).terminate('by hand');
const cancel: Hand = ({ client }, orderNo) => client.workflow.getHandle(orderNo).cancel();

const remove: Hand = ({ client }, workflowId) =>
  client.workflowService.deleteWorkflowExecution({
    namespace: client.options.namespace,
    workflowExecution: { workflowId },
  });

/** To the end of its first task. */
const reset: Hand = async ({ client }, workflowId) => {
  const { runId } = await client.workflow.getHandle(workflowId).describe();
  const handle = client.workflow.getHandle(workflowId, runId);
  const eventId = await waitFor(`the first task of ${workflowId}`, async () => {
    const { events } = await handle.fetchHistory();
    return events?.find((event) => event.workflowTaskCompletedEventAttributes)?.eventId ?? undefined;
  });
  await client.workflowService.resetWorkflowExecution({
    namespace: client.options.namespace,
    workflowExecution: { workflowId, runId },
    reason: 'by hand',
    requestId: randomUUID(),
    workflowTaskFinishEventId: eventId,
  });
};

/** The name of a signal, and the encoding and bytes of its argument. */
const GARBAGE: [signalName: string, encoding: string, data: string][] = [
  ['paymentReceived', 'json/plain', '{"not json'],
  ['paymentReceived', 'binary/encrypted', 'what only another can read'],
  ['refundUpdated', 'json/plain', 'null'],
  ['no such signal', 'json/plain', '[1, 2'],
  ['', 'json/plain', '{}'],
  ['cancelRequested', 'json/plain', 'null'],
  ['cancelRequested', 'json/plain', '{"reason":'],
  ['cancelRequested', 'binary/encrypted', 'what only another can read'],
  ['cancelRequested', 'json/plain', '{"reason":"because"}'],
  ['cancelRequested', 'no/such encoding', ''],
];

const signalGarbage: Hand = async ({ client }, workflowId, i) => {
  const [signalName = '', encoding = '', data = ''] = GARBAGE[i] ?? [];
  // The server itself refuses a signal without a name.
  if (signalName === '') return;
  await client.workflowService.signalWorkflowExecution({
    namespace: client.options.namespace,
    workflowExecution: { workflowId },
    signalName,
    input: { payloads: [{ metadata: { encoding: Buffer.from(encoding) }, data: Buffer.from(data) }] },
    requestId: randomUUID(),
  });
};

function buyTen(shopper: Shopper, saleId: string): Promise<string[]> {
  return Promise.all(TEN.map(() => shopper.buy(saleId)));
}

/** A workflow that was terminated or deleted begins again, and only then its window can end. */
async function awaitEnd(shop: Checkout, shopper: Shopper, orderNo: string, endsByTime: boolean) {
  return waitFor(
    `the end of ${orderNo}`,
    async () => {
      const seen = await shopper.readOrder(orderNo);
      if (seen.pollAfterMs === null) return seen;
      if (endsByTime && (await isRunning(shop, orderNo)))
        await endWindow(shop.client, orderNo).catch(() => {});
      return undefined;
    },
    TIMEOUT_MS,
  );
}

async function isRunning({ client }: Checkout, workflowId: string): Promise<boolean> {
  return (await describeIfStarted(client, workflowId))?.status.name === 'RUNNING';
}

const pay = async (shopper: Shopper, orderNo: string) => pressPay(sessionOf(await shopper.pay(orderNo)).url);

test(
  'workflows of open orders are terminated, cancelled, reset, deleted and signalled garbage, ten each: all orders end right, and nothing is parked',
  async () => {
    const shop = await openCheckout(WHOLE);
    const { stores } = shop;
    const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: LAMP_PRICE, total: 80, limitPerUser: null }];
    const { saleId } = await stores.openSale(buildSale({ skus }));
    const shopper = await shop.shopper();
    const hands = { terminate, reset, remove, cancel, signalGarbage, leave: async () => {} };
    const groups = new Map<string, string[]>();
    for (const [name, hand] of Object.entries(hands)) {
      const orderNos = await buyTen(shopper, saleId);
      groups.set(name, orderNos);
      for (const orderNo of orderNos)
        await waitFor(`the start of ${orderNo}`, () => isRunning(shop, orderNo));
      await Promise.all(orderNos.map((orderNo, i) => hand(shop, orderNo, i)));
    }
    const all = [...groups.values()].flat();

    // Of each ten two are paid at once, two are cancelled, and six are left to the end of their windows.
    const expected = new Map<string, string>();
    for (const [name, orderNos] of groups) {
      if (name === 'cancel') continue;
      const [one = '', two = '', three = '', four = ''] = orderNos;
      for (const orderNo of [one, two]) {
        await pay(shopper, orderNo);
        expected.set(orderNo, 'paid');
      }
      for (const orderNo of [three, four]) {
        await shopper.cancel(orderNo);
        expected.set(orderNo, 'shopper_request');
      }
    }
    for (const orderNo of groups.get('cancel') ?? []) expected.set(orderNo, 'operator_request');
    for (const orderNo of groups.get('signalGarbage')?.slice(5) ?? [])
      expected.set(orderNo, 'operator_request');
    // An operator does it again while the others wait, and to workflows that have ended.
    const ended = [...expected].filter(([, end]) => end === 'paid').map(([orderNo]) => orderNo);
    for (const orderNo of ended) await shopper.awaitStatus(orderNo, 'paid');
    // A paid order needs no workflow: what was terminated or deleted before the payment is not started again.
    for (const name of ['reset', 'signalGarbage', 'leave']) {
      const [one = '', two = ''] = groups.get(name) ?? [];
      await reset(shop, one, 0);
      await remove(shop, two, 0);
    }
    await Promise.all(
      (groups.get('terminate') ?? []).slice(4).map((orderNo) => terminateIfRunning(shop, orderNo)),
    );

    for (const orderNo of all) {
      const end = expected.get(orderNo) ?? 'payment_timeout';
      const order = await awaitEnd(shop, shopper, orderNo, end === 'payment_timeout');
      expect(order).toMatchObject(
        end === 'paid' ? { status: 'paid', reason: null } : { status: 'cancelled', reason: end },
      );
    }
    expect(await select(stores.pool, 'SELECT kind, reference, reason FROM parked')).toEqual([]);
    await waitFor('the slots of the engine', async () => (await stores.budget.room()) === 50);
    await expectCleanAudit(shop);
  },
  2 * TIMEOUT_MS,
);

/** One whose workflow was terminated before may have no new one yet. */
async function terminateIfRunning(shop: Checkout, orderNo: string): Promise<void> {
  if (await isRunning(shop, orderNo)) await terminate(shop, orderNo, 0);
}

test(
  'refunds whose workflows are terminated, reset or deleted reach the payer once',
  async () => {
    let isAway = true;
    const shop = await openCheckout({
      ...WHOLE,
      inFront: (provider) => ({
        ...provider,
        refund: (request) => (isAway ? Promise.reject(new Error('away')) : provider.refund(request)),
      }),
    });
    const { stores, providerConsole } = shop;
    const { saleId } = await stores.openSale(buildSale());
    const shopper = await shop.shopper();
    const orderNo = await shopper.buy(saleId);
    await shopper.awaitStatus(orderNo, 'awaiting_payment');
    await shopper.cancel(orderNo);
    await shopper.awaitStatus(orderNo, 'cancelled');
    for (const _ of [1, 2, 3])
      await providerConsole.takeStrayPayment({ reference: orderNo, amount: LAMP_PRICE });
    const refunds = await waitFor('three refunds', async () => {
      const rows = await select(stores.pool, 'SELECT payment_id FROM payments');
      const ids = rows.map((row) => readRefundWorkflowId(stores.pool, Number(row['payment_id'])));
      return rows.length === 3 && Promise.all(ids);
    });
    for (const id of refunds) await waitFor(`the start of ${id}`, () => isRunning(shop, id));

    const [one = '', two = '', three = ''] = refunds;
    await terminate(shop, one, 0);
    await remove(shop, two, 0);
    await waitFor('a first task', async () => {
      const { events } = await shop.client.workflow.getHandle(three).fetchHistory();
      return events?.some((event) => event.workflowTaskCompletedEventAttributes);
    });
    await reset(shop, three, 0);
    isAway = false;

    await shop.awaitReturned({ orderNo });
    for (const id of refunds) await waitFor(`the end of ${id}`, async () => !(await isRunning(shop, id)));
    expect(await select(stores.pool, 'SELECT kind, reference, reason FROM parked')).toEqual([]);
    await expectCleanAudit(shop);
  },
  2 * TIMEOUT_MS,
);
