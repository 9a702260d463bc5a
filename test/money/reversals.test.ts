/** Refunds and chargebacks that the provider reports, made by us, by provider staff or by a payer's bank. */

import { beforeAll, describe, expect, test } from 'vitest';
import type { Reversal } from '../../src/money/payment.ts';
import { modify } from '../../src/mysql/connection.ts';
import { buildReversal, reverse } from '../support/payment-notices.ts';
import { select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { createMoneyWorld, type MoneyWorld } from './money-world.ts';

let stores: TestStores;
let world: MoneyWorld;
beforeAll(async () => {
  stores = await openTestStores();
  world = createMoneyWorld(stores);
});

const reversalOf = ({ providerReversalId }: Reversal) =>
  selectOne(stores.pool, 'SELECT status, amount FROM reversals WHERE provider_reversal_id = ?', [
    providerReversalId,
  ]);

test('a provider that numbers the refunds and disputes of each payment by themselves mixes up none', async () => {
  const [one, other] = [await world.paidOrder(), await world.paidOrder()];
  const numbered = { providerReversalId: '1' };
  await reverse(stores, buildReversal(one.payment, { ...numbered, amount: 900 }));
  await reverse(stores, buildReversal(one.payment, { ...numbered, kind: 'dispute', status: 'pending' }));
  await reverse(stores, buildReversal(other.payment, numbered));

  expect(await world.stateOf(one.order)).toMatchObject({ payment: 'disputed', refunded: 900 });
  expect(await world.stateOf(other.order)).toMatchObject({ payment: 'refunded', refunded: 4_900 });
  // Each once, however often it is reported.
  await reverse(stores, buildReversal(one.payment, { ...numbered, amount: 900 }));
  expect(await world.stateOf(one.order)).toMatchObject({ payment: 'disputed', refunded: 900 });
});

describe('an applied payment', () => {
  test('that went back at the provider: the order stays paid, says so, gives the limit back and is shown', async () => {
    const { order, payment } = await world.paidOrder();
    const changed = await reverse(stores, buildReversal(payment));
    const refunded = { status: 'paid', version: 3, payment: 'refunded', reason: null, refunded: 4_900 };
    expect(changed?.state).toEqual(refunded);
    expect(await world.stateOf(order)).toEqual(changed?.state);
    expect(await world.historyOf(order)).toEqual([
      '1 awaiting_payment none',
      '2 paid applied',
      '3 paid refunded',
    ]);
    expect(await world.rowOf(payment)).toMatchObject({ status: 'refunded', refund_reason: null, due: 1 });
    expect(await world.returnedOf(order)).toEqual({ limit_returned: 1, stock_returned: 0 });
    expect(await world.parkedReason(payment)).toContain('stock comes back only if you say so');
  });

  test('that went back in part is shown as such; with the rest it is refunded', async () => {
    const { order, payment } = await world.paidOrder();
    await reverse(stores, buildReversal(payment, { amount: 900 }));
    expect(await world.statusOf(payment)).toBe('applied');
    expect(await world.stateOf(order)).toMatchObject({
      status: 'paid',
      payment: 'partially_refunded',
      refunded: 900,
      version: 3,
    });
    expect(await world.parkedReason(payment)).toContain('of 4900 EUR');
    await reverse(stores, buildReversal(payment, { amount: 4_000 }));
    expect(await world.statusOf(payment)).toBe('refunded');
    expect(await world.stateOf(order)).toMatchObject({ payment: 'refunded', refunded: 4_900, version: 4 });
  });

  test('is not refunded by money of another currency, which is shown to an operator', async () => {
    const { payment } = await world.paidOrder();
    await reverse(stores, buildReversal(payment, { currency: 'USD' }));
    expect(await world.statusOf(payment)).toBe('applied');
    expect(await world.parkedReason(payment)).toBeDefined();
  });

  test('is disputed while the chargeback is open, and applied again once the shop has won', async () => {
    const { order, payment } = await world.paidOrder();
    const dispute = buildReversal(payment, { kind: 'dispute', status: 'pending' });
    await reverse(stores, dispute);
    expect(await world.stateOf(order)).toMatchObject({ status: 'paid', payment: 'disputed', version: 3 });
    expect(await world.rowOf(payment)).toMatchObject({ status: 'applied', due: 1 });
    expect(await world.parkedReason(payment)).toMatch(/^disputed/);
    await reverse(stores, { ...dispute, status: 'failed' });
    expect(await world.stateOf(order)).toMatchObject({ status: 'paid', payment: 'applied', version: 4 });
    expect(await world.parkedReason(payment)).toBeUndefined();
    expect(await world.returnedOf(order)).toEqual({ limit_returned: 0, stock_returned: 0 });
  });

  test('is refunded by a chargeback that was lost, and pays for the order again should the shop win after all', async () => {
    const { order, payment } = await world.paidOrder();
    const dispute = buildReversal(payment, { kind: 'dispute', status: 'pending' });
    await reverse(stores, dispute);
    await reverse(stores, { ...dispute, status: 'succeeded' });
    expect(await world.stateOf(order)).toMatchObject({ status: 'paid', payment: 'refunded', version: 4 });
    expect(await world.parkedReason(payment)).toMatch(/4900 went back/);
    await reverse(stores, { ...dispute, status: 'failed' });
    expect(await world.statusOf(payment)).toBe('applied');
    expect(await world.stateOf(order)).toMatchObject({ status: 'paid', payment: 'applied', version: 5 });
    expect(await world.parkedReason(payment)).toBeUndefined();
  });

  test('whose goods came back is to be refunded when a lost chargeback is won after all', async () => {
    const { order, payment } = await world.paidOrder();
    const dispute = buildReversal(payment, { kind: 'dispute' });
    await reverse(stores, dispute);
    await stores.refunds.returnStock(order.orderNo, 'ops');
    await reverse(stores, { ...dispute, status: 'failed' });
    expect(await world.statusOf(payment)).toBe('refund_due');
  });

  test('is to be refunded again when a refund that had succeeded fails, and is shown', async () => {
    const { order, payment } = await world.paidOrder();
    const refund = buildReversal(payment);
    await reverse(stores, refund);
    await world.settleDue();
    await reverse(stores, { ...refund, status: 'failed' });
    expect(await world.rowOf(payment)).toMatchObject({ status: 'refund_due', due: 1 });
    expect(await world.stateOf(order)).toMatchObject({ status: 'paid', payment: 'applied', version: 4 });
    expect(await world.parkedReason(payment)).toContain('failed after it had succeeded');
    await reverse(stores, buildReversal(payment));
    expect(await world.statusOf(payment)).toBe('refunded');
    expect(await world.parkedReason(payment)).toBeUndefined();
  });
});

describe('a dispute that was closed', () => {
  const T0_MS = Date.UTC(2026, 10, 25, 12);

  /** A paid order, and what the provider says of its dispute, each so many seconds after the first. */
  async function openDisputed() {
    const { order, payment } = await world.paidOrder();
    const dispute = buildReversal(payment, { kind: 'dispute', status: 'pending' });
    const statement = (status: Reversal['status'], second: number, change: Partial<Reversal> = {}) => ({
      ...dispute,
      status,
      asOfMs: T0_MS + second * 1_000,
      ...change,
    });
    const say = (...args: Parameters<typeof statement>) => reverse(stores, statement(...args));
    return { order, payment, statement, say };
  }

  test('as won and is then lost takes the money: the order shows it, and an operator is asked about the stock', async () => {
    const { order, payment, say } = await openDisputed();
    await say('pending', 0);
    await say('failed', 1);
    await world.settleDue();

    await say('succeeded', 2);

    expect(await world.stateOf(order)).toMatchObject({
      status: 'paid',
      payment: 'refunded',
      refunded: 4_900,
    });
    expect(await world.rowOf(payment)).toMatchObject({ status: 'refunded', due: 1 });
    expect(await world.parkedReason(payment)).toContain('4900 went back');
    expect(await world.returnedOf(order)).toEqual({ limit_returned: 1, stock_returned: 0 });
    expect((await world.historyOf(order)).slice(1)).toEqual([
      '2 paid applied',
      '3 paid disputed',
      '4 paid applied',
      '5 paid refunded',
    ]);
  });

  test('as a mere inquiry and comes back as a chargeback is shown as open, with the amount that it has now', async () => {
    const { order, payment, say } = await openDisputed();
    await say('failed', 1);
    expect(await world.stateOf(order)).toMatchObject({ payment: 'applied' });

    await say('pending', 2, { amount: 2_000 });

    expect(await world.stateOf(order)).toMatchObject({ status: 'paid', payment: 'disputed' });
    expect(await world.parkedReason(payment)).toContain('0 went back and 2000 may');
  });

  test('as lost and opens again leaves the order disputed, and refunded once it is lost again', async () => {
    const { order, payment, say } = await openDisputed();
    await say('succeeded', 1);
    await say('pending', 2);
    expect(await world.stateOf(order)).toMatchObject({ status: 'paid', payment: 'disputed' });
    expect(await world.statusOf(payment)).toBe('applied');

    await say('succeeded', 3);

    expect(await world.stateOf(order)).toMatchObject({
      status: 'paid',
      payment: 'refunded',
      refunded: 4_900,
    });
    // The limit came back once, when it was lost first.
    expect(await world.returnedOf(order)).toEqual({ limit_returned: 1, stock_returned: 0 });
  });

  test('opens again while a refund is due: nothing more is sent back until it ends', async () => {
    const { payment, say } = await openDisputed();
    await say('failed', 1);
    await stores.refunds.request(await world.idOf(payment), 'olga');
    await world.settleDue();

    await say('pending', 2);

    const task = await stores.refunds.read({ paymentId: await world.idOf(payment) });
    expect(task).toMatchObject({ status: 'refund_due', chargedBack: payment.amount });
    // Its workflow is told.
    expect(await world.rowOf(payment)).toMatchObject({ due: 1 });
  });

  const STATEMENTS = [
    ['pending', 0],
    ['failed', 1],
    ['succeeded', 2],
  ] as const;
  test.each([[[0, 1, 2]], [[0, 2, 1]], [[1, 0, 2]], [[1, 2, 0]], [[2, 0, 1]], [[2, 1, 0]]])(
    'is lost in the end though the notices come twice and in the order %j',
    async (sequence) => {
      const { order, payment, statement } = await openDisputed();
      const notices = sequence
        .flatMap((at) => STATEMENTS.slice(at, at + 1))
        .map(([status, second]) => statement(status, second));
      for (const reversal of [...notices, ...notices]) await reverse(stores, reversal);
      expect(await reversalOf(statement('succeeded', 2))).toMatchObject({ status: 'succeeded' });
      expect(await world.stateOf(order)).toMatchObject({ payment: 'refunded', refunded: 4_900 });
      expect(await world.statusOf(payment)).toBe('refunded');
    },
  );

  test.each([
    ['pending', 'failed', 'failed'],
    ['failed', 'pending', 'failed'],
    ['succeeded', 'failed', 'failed'],
    ['failed', 'succeeded', 'failed'],
  ] as const)('in the second of another statement, %s and then %s, is %s', async (first, second, ends) => {
    const { statement, say } = await openDisputed();
    await say(first, 1);
    await say(second, 1);
    expect(await reversalOf(statement(ends, 1))).toMatchObject({ status: ends });
  });

  test('is as the latest list says, but not as one that was read before the latest notice', async () => {
    const { statement, say } = await openDisputed();
    await say('succeeded', 10);
    await stores.refunds.recordReversals('sandbox', [statement('failed', 5)], 'provider');
    expect(await reversalOf(statement('succeeded', 10))).toMatchObject({ status: 'succeeded' });

    await stores.refunds.recordReversals('sandbox', [statement('failed', 20)], 'provider');
    expect(await reversalOf(statement('failed', 20))).toMatchObject({ status: 'failed' });
  });

  test('and is only confirmed later is no news', async () => {
    const { order, payment, say } = await openDisputed();
    await say('succeeded', 1);
    await world.settleDue();
    const before = await world.stateOf(order);
    await say('succeeded', 2);
    expect(await world.stateOf(order)).toEqual(before);
    expect(await world.rowOf(payment)).toMatchObject({ due: null });
    // It counts all the same: what was said before it comes too late.
    await say('failed', 1.5);
    expect(await world.stateOf(order)).toEqual(before);
  });
});

test('a parked payment that went back is refunded and waits for no operator any more', async () => {
  const { payment } = await world.withMoney(await world.storedOrder(), { amount: 1_000 });
  await reverse(stores, buildReversal(payment, { amount: 400 }));
  expect(await world.statusOf(payment)).toBe('parked');
  expect(await world.parkedReason(payment)).toContain('costs 4900 EUR');
  await reverse(stores, buildReversal(payment, { amount: 600 }));
  expect(await world.statusOf(payment)).toBe('refunded');
  expect(await world.parkedReason(payment)).toBeUndefined();
});

test('money that names no order can go back too', async () => {
  const order = await world.newOrder();
  const { payment } = await world.withMoney(order, { orderNo: 'an invoice of another shop' });
  await reverse(stores, buildReversal(payment));
  expect(await world.statusOf(payment)).toBe('refunded');
  expect(await world.parkedReason(payment)).toBeUndefined();
});

test('the provider’s news of a refund that is due wakes its workflow, what the workflow found out itself does not', async () => {
  const order = await world.storedOrder();
  await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: false });
  const { payment } = await world.withMoney(order);
  const refund = buildReversal(payment, { status: 'pending' });
  await world.settleDue();
  await stores.refunds.recordReversals('sandbox', [refund]);
  expect(await world.rowOf(payment)).toMatchObject({ status: 'refund_due', due: null });
  await reverse(stores, { ...refund, status: 'failed' });
  expect(await world.rowOf(payment)).toMatchObject({ status: 'refund_due', due: 1 });
  await reverse(stores, buildReversal(payment));
  expect(await world.rowOf(payment)).toMatchObject({ status: 'refunded', refund_reason: 'order_ended' });
});

describe('a reversal’s own status', () => {
  test.each([
    [['succeeded', 'pending'], 'succeeded'],
    [['failed', 'succeeded', 'pending'], 'failed'],
    [['pending', 'succeeded', 'failed'], 'failed'],
    [['pending', 'succeeded', 'succeeded'], 'succeeded'],
  ] as const)('reported as %j is %s: it never goes back', async (reported, kept) => {
    const { payment } = await world.paidOrder();
    const reversal = buildReversal(payment);
    for (const status of reported) await reverse(stores, { ...reversal, status });
    expect(await reversalOf(reversal)).toMatchObject({ status: kept });
  });

  test('takes its amount along, and neither changes by what came too late', async () => {
    const { payment } = await world.paidOrder();
    const reversal = buildReversal(payment, { amount: 2_000, status: 'pending' });
    await reverse(stores, reversal);
    await reverse(stores, { ...reversal, amount: 1_900, status: 'succeeded' });
    await reverse(stores, reversal);
    expect(await reversalOf(reversal)).toEqual({ status: 'succeeded', amount: 1_900 });
  });
});

test('a refund that staff made and whose state is not known is shown, with the name of the state', async () => {
  const { order, payment } = await world.paidOrder();
  await reverse(stores, buildReversal(payment, { status: 'pending', unknownState: 'a_new_word' }));
  expect(await world.stateOf(order)).toMatchObject({ payment: 'applied' });
  expect(await world.parkedReason(payment)).toContain('in the state a_new_word, which is not known');
});

test('the same news again changes nothing, though an operator has dealt with it', async () => {
  const { order, payment } = await world.paidOrder();
  const reversal = buildReversal(payment);
  await reverse(stores, reversal);
  await world.settleDue();
  await modify(stores.pool, 'UPDATE parked SET resolved_at = NOW(3) WHERE reference = ?', [
    payment.providerPaymentId,
  ]);
  const before = await world.stateOf(order);
  await reverse(stores, reversal);
  await stores.refunds.recordReversals('sandbox', [reversal]);
  expect(await world.stateOf(order)).toEqual(before);
  expect(await world.rowOf(payment)).toMatchObject({ status: 'refunded', due: null });
  expect(await world.parkedReason(payment)).toBeUndefined();
});

test('the inbox keeps the notice under the order of its payment, once', async () => {
  const { order, payment } = await world.paidOrder();
  const notice = {
    kind: 'payment_reversed',
    eventId: `r-${order.orderNo}`,
    reversal: buildReversal(payment),
  } as const;
  await stores.payments.receive('sandbox', notice, '{"as":"it came"}');
  await stores.payments.receive('sandbox', notice, '{}');
  const kept = await select(
    stores.pool,
    'SELECT kind, order_no, raw_body FROM payment_events WHERE provider_event_id = ?',
    [notice.eventId],
  );
  expect(kept).toEqual([
    { kind: 'payment_reversed', order_no: order.orderNo, raw_body: Buffer.from('{"as":"it came"}') },
  ]);
});
