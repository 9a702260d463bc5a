/**
 * The steps of a refund over the real stores. The provider is
 * scripted, so that it can answer the worst at the worst moment.
 */

import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { createActivities } from '../../src/activities/index.ts';
import type { Reversal } from '../../src/money/payment.ts';
import { selectRows } from '../../src/mysql/connection.ts';
import { IDEMPOTENCY_KEY_PATTERN } from '../../src/orders/content.ts';
import type { Order } from '../../src/orders/content.ts';
import { RefundRefusedError, type RefundRequest } from '../../src/providers/provider.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { readPaymentId } from '../support/rows.ts';
import type { RefundActivities } from '../support/workflows/refund-activities.ts';
import { noProvider, openStage, type Stage } from './stage.ts';

let stage: Stage;
beforeAll(async () => {
  stage = await openStage();
});

const SAID = { code: 'charge_disputed', message: 'There is an open dispute about it.' };

type Answer = Reversal['status'] | 'refused' | 'refused-for-good' | 'unheard' | 'away';

/** What a provider has answered under each key of its account. */
type Keys = Map<string, Reversal | 'refused'>;

/** A provider with one payment in its book: a repeat is answered by its key, and every call is recorded. */
function createScript(providerPaymentId: string, currency: string, byKey: Keys = new Map()) {
  const book: Reversal[] = [];
  const asked: RefundRequest[] = [];
  let answers: Answer[] = [];
  let listed: Reversal[] | undefined;

  function enter(amount: number, status: Reversal['status'], change: Partial<Reversal> = {}): Reversal {
    const providerReversalId = `re-${providerPaymentId.slice(-60)}-${book.length}`;
    const made = { kind: 'refund', providerReversalId, providerPaymentId, amount, currency, status } as const;
    book.push({ ...made, ...change });
    return { ...made, ...change };
  }

  async function refund(request: RefundRequest): Promise<Reversal> {
    asked.push(request);
    const answer = answers.shift() ?? 'succeeded';
    if (answer === 'away') throw new Error('connect ECONNREFUSED');
    if (answer === 'refused-for-good') throw new RefundRefusedError({ ...SAID, isForGood: true });
    const isForGood = answer === 'pending' || answer === 'succeeded' || answer === 'failed';
    const known = byKey.get(request.refundKey);
    const made =
      known ?? (answer === 'refused' ? answer : enter(request.amount, isForGood ? answer : 'succeeded'));
    byKey.set(request.refundKey, made);
    if (made === 'refused')
      throw new RefundRefusedError({
        code: 'no_money',
        message: 'no money on the account',
        isForGood: false,
      });
    if (answer === 'unheard') throw new Error('timeout');
    return made;
  }

  return {
    asked,
    book,
    enter,
    /** To the next calls; after them, refunds succeed. */
    answers: (...next: Answer[]) => void (answers = next),
    /** What becomes of the newest, later. */
    turn: (status: Reversal['status']) =>
      void book.splice(-1, 1, ...book.slice(-1).map((last) => ({ ...last, status }))),
    /** The list shows no more from now on than it does now. */
    stopList: () => void (listed = [...book]),
    provider: { ...noProvider, name: 'sandbox', refund, listReversals: async () => listed ?? [...book] },
  };
}

interface Owed {
  steps: RefundActivities;
  order: Order;
  paymentId: number;
  script: ReturnType<typeof createScript>;
  status: () => Promise<string[]>;
  refund: () => ReturnType<RefundActivities['refundPayment']>;
}

const paymentIdOf = ({ orderNo }: Order, { stores } = stage): Promise<number> =>
  readPaymentId(stores.pool, orderNo);

interface PaidOptions {
  isDue: boolean;
  /** Instead of the stage of this file. */
  shop?: Stage;
  /** Of the provider's account. */
  keys?: Keys;
  /** The provider's id of the payment. */
  name?: string;
}

/** A paid order; with `isDue` an operator has requested its refund. */
async function openPaid({ isDue, shop = stage, keys, name }: PaidOptions): Promise<Owed> {
  const order = await shop.reserveOrder();
  const providerPaymentId = name ?? `pay-${order.orderNo}`;
  const script = createScript(providerPaymentId, order.currency, keys);
  const steps = shop.openSteps(script.provider);
  await steps.persistOrder({ order });
  const { orderNo, total: amount, currency } = order;
  await shop.stores.payments.record('sandbox', {
    providerPaymentId,
    orderNo,
    amount,
    currency,
    signedOrder: null,
  });
  await steps.markPaid({ orderNo });
  await steps.confirmStock({ orderNo });
  const paymentId = await paymentIdOf(order, shop);
  if (isDue) await shop.stores.refunds.request(paymentId, 'olga');
  return {
    steps,
    order,
    paymentId,
    script,
    status: () => shop.paymentStatuses(order),
    refund: () => steps.refundPayment({ paymentId }),
  };
}

const openDue = (): Promise<Owed> => openPaid({ isDue: true });

test('refundPayment sends the money back, once however often it runs', async () => {
  const { refund, status, script, order } = await openDue();

  expect(await refund()).toBe('refunded');
  expect(await refund()).toBe('nothing-due');

  expect(await status()).toEqual(['refunded']);
  expect(script.asked).toEqual([
    {
      refundKey: `refund-pay-${order.orderNo}:0`,
      providerPaymentId: `pay-${order.orderNo}`,
      amount: order.total,
      currency: order.currency,
    },
  ]);
});

test('refundPayment does not ask the provider about a payment that is not due, or that does not exist', async () => {
  const { steps, refund, status } = await openPaid({ isDue: false });
  expect(await refund()).toBe('nothing-due');
  expect(await status()).toEqual(['applied']);
  expect(await steps.refundPayment({ paymentId: 4_000_000 })).toBe('nothing-due');
});

test('refundPayment finds a refund whose answer never came, however long ago', async () => {
  const { refund, status, script } = await openDue();
  script.answers('unheard');

  await expect(refund()).rejects.toThrow('timeout');
  expect(await status()).toEqual(['refund_due']);
  expect(await refund()).toBe('refunded');

  expect(script.asked).toHaveLength(1);
  expect(script.book).toHaveLength(1);
  expect(await status()).toEqual(['refunded']);
});

test('refundPayment repeats a call that may not have arrived under the same key', async () => {
  const { refund, script } = await openDue();
  script.answers('away');

  await expect(refund()).rejects.toThrow('ECONNREFUSED');
  expect(await refund()).toBe('refunded');

  expect(new Set(script.asked.map(({ refundKey }) => refundKey)).size).toBe(1);
});

test('refundPayment asks anew after a refusal: under the same key it would be refused for ever', async () => {
  const { refund, status, script, order } = await openDue();
  script.answers('refused', 'refused');

  await expect(refund()).rejects.toThrow('no money on the account');
  await expect(refund()).rejects.toThrow('no money on the account');
  expect(await status()).toEqual(['refund_due']);
  expect(await refund()).toBe('refunded');

  expect(script.asked.map(({ refundKey }) => refundKey)).toEqual(
    [0, 1, 2].map((refusals) => `refund-pay-${order.orderNo}:${refusals}`),
  );
  expect(await status()).toEqual(['refunded']);
});

test('refundPayment says while a refund is pending, and asks for no second one', async () => {
  const { refund, status, script } = await openDue();
  script.answers('pending');

  expect(await refund()).toBe('pending');
  expect(await refund()).toBe('pending');
  expect(await status()).toEqual(['refund_due']);
  script.turn('succeeded');
  expect(await refund()).toBe('refunded');

  expect(script.asked).toHaveLength(1);
  expect(await status()).toEqual(['refunded']);
});

test('refundPayment makes a refund anew that was pending and has failed', async () => {
  const { refund, status, script } = await openDue();
  script.answers('pending');
  await refund();
  script.turn('failed');

  // A repeat under the same key returns the refund that has failed; the next try has another key.
  await expect(refund()).rejects.toThrow('has failed at the provider');
  expect(await refund()).toBe('refunded');

  expect(script.book.map(({ status: its }) => its)).toEqual(['failed', 'succeeded']);
  expect(await status()).toEqual(['refunded']);
});

test('refundPayment tries again when a refund fails at once', async () => {
  const { refund, status, script } = await openDue();
  script.answers('failed');

  await expect(refund()).rejects.toThrow('has failed at the provider');
  expect(await status()).toEqual(['refund_due']);
  expect(await refund()).toBe('refunded');
});

test('refundPayment finds a refund that provider staff made, and sends only what is left', async () => {
  const { refund, status, script, order } = await openDue();
  script.enter(1_000, 'succeeded');

  expect(await refund()).toBe('refunded');

  expect(script.asked).toEqual([
    expect.objectContaining({
      amount: order.total - 1_000,
      refundKey: `refund-pay-${order.orderNo}:0-${order.total - 1_000}`,
    }),
  ]);
  expect(await status()).toEqual(['refunded']);
});

test('refundPayment sends nothing where provider staff refunded all', async () => {
  const { refund, status, script, order } = await openDue();
  script.enter(order.total, 'succeeded');
  expect(await refund()).toBe('refunded');
  expect(script.asked).toEqual([]);
  expect(await status()).toEqual(['refunded']);
});

test('refundPayment waits for a pending refund of provider staff, and sends the money where that one fails', async () => {
  const { refund, status, script, order, paymentId } = await openPaid({ isDue: false });
  await stage.stores.refunds.recordReversals('sandbox', [script.enter(order.total, 'pending')], 'provider');
  await stage.stores.refunds.request(paymentId, 'olga');

  expect(await refund()).toBe('pending');
  expect(script.asked).toEqual([]);
  script.turn('failed');
  expect(await refund()).toBe('refunded');

  expect(script.book.map(({ amount, status: its }) => [amount, its])).toEqual([
    [order.total, 'failed'],
    [order.total, 'succeeded'],
  ]);
  expect(await status()).toEqual(['refunded']);
  expect(await stage.stores.refunds.readRefundsOf(order.orderNo)).toMatchObject([
    { amount: order.total, status: 'succeeded' },
  ]);
});

test('refundPayment never sends on top of a chargeback: it waits for what becomes of it', async () => {
  const { refund, status, script, order } = await openDue();
  const dispute: Reversal = {
    kind: 'dispute',
    providerReversalId: `dp-${order.orderNo}`,
    providerPaymentId: `pay-${order.orderNo}`,
    amount: order.total,
    currency: order.currency,
    status: 'pending',
  };
  await stage.stores.refunds.recordReversals('sandbox', [dispute]);

  expect(await refund()).toBe('pending');
  expect(script.asked).toEqual([]);
  await stage.stores.refunds.recordReversals('sandbox', [{ ...dispute, status: 'succeeded' }]);

  expect(await refund()).toBe('nothing-due');
  expect(await status()).toEqual(['refunded']);
  expect(script.asked).toEqual([]);
});

/** An open chargeback of this much of the payment. */
function buildDispute({ orderNo, currency }: Order, amount: number): Reversal {
  const id = { providerReversalId: `dp-${orderNo}`, providerPaymentId: `pay-${orderNo}` };
  return { kind: 'dispute', ...id, amount, currency, status: 'pending' };
}

test('refundPayment counts a chargeback once that it finds at the provider, and sends the rest', async () => {
  const { refund, script, order } = await openDue();
  const dispute = buildDispute(order, 1_000);
  await stage.stores.refunds.recordReversals('sandbox', [dispute]);
  script.enter(1_000, 'pending', dispute);

  expect(await refund()).toBe('pending');

  expect(script.asked.map(({ amount }) => amount)).toEqual([order.total - 1_000]);
});

test('refundPayment finds a lost chargeback without a notice', async () => {
  const { refund, status, script, order } = await openDue();
  script.enter(order.total, 'succeeded', { ...buildDispute(order, order.total), status: 'succeeded' });

  expect(await refund()).toBe('refunded');

  expect(script.asked).toEqual([]);
  expect(await status()).toEqual(['refunded']);
});

test('refundPayment waits for an open chargeback without a notice', async () => {
  const { refund, status, script, order } = await openDue();
  script.enter(order.total, 'pending', buildDispute(order, order.total));

  expect(await refund()).toBe('pending');

  expect(script.asked).toEqual([]);
  expect(await status()).toEqual(['refund_due']);
});

test('refundPayment asks for nothing where something went back in another currency: an operator decides', async () => {
  const { refund, status, script } = await openDue();
  script.enter(1_000, 'succeeded', { currency: 'XTS' });

  await expect(refund()).rejects.toThrow('went back in another currency');

  expect(script.asked).toEqual([]);
  expect(await status()).toEqual(['refund_due']);
});

test('refundPayment goes on trying where the provider says that all is back, and MySQL does not', async () => {
  const { refund, status, script, order } = await openDue();
  const made = script.enter(order.total, 'succeeded');
  // A failure is the last that a refund's row takes.
  await stage.stores.refunds.recordReversals('sandbox', [{ ...made, status: 'failed' }]);

  await expect(refund()).rejects.toThrow('refunded in full at the provider, but not in MySQL');

  expect(script.asked).toEqual([]);
  expect(await status()).toEqual(['refund_due']);
});

test('refundPayment asks for no more under another key where less was made than it asked for', async () => {
  const { refund, status, script, order } = await openDue();
  const { provider, asked } = script;
  const stingy = stage.openSteps({
    ...provider,
    refund: (request) => provider.refund({ ...request, amount: request.amount - 1 }),
  });
  const paymentId = await paymentIdOf(order);

  await expect(stingy.refundPayment({ paymentId })).rejects.toThrow('covers less than was requested');
  expect(await refund()).toBe('refunded');

  expect(asked.map(({ amount }) => amount)).toEqual([order.total - 1, 1]);
  expect(await status()).toEqual(['refunded']);
});

/** Staff request so much of the order's money. */
const requestPart = ({ order }: Owed, amount: number, idempotencyKey: string) =>
  stage.stores.refunds.requestByOrder(
    order.orderNo,
    { kind: 'money', amount, restock: false, restoresLimit: undefined },
    { actor: 'olga', reason: null },
    { idempotencyKey, fingerprint: 'f' },
  );

test('refundPayment makes one refund for each part that was requested, though they are alike', async () => {
  const owed = await openPaid({ isDue: false });
  await requestPart(owed, 1_000, 'one');
  await requestPart(owed, 1_000, 'two');

  expect(await owed.refund()).toBe('refunded');
  expect(await owed.refund()).toBe('nothing-due');

  expect(owed.script.book.map(({ amount }) => amount)).toEqual([1_000, 1_000]);
  expect(new Set(owed.script.asked.map(({ refundKey }) => refundKey)).size).toBe(2);
  expect(await owed.status()).toEqual(['applied']);
});

test('refundPayment repeats a part whose answer was lost before it makes one requested since', async () => {
  const owed = await openPaid({ isDue: false });
  await requestPart(owed, 1_000, 'one');
  owed.script.answers('away');
  await expect(owed.refund()).rejects.toThrow('ECONNREFUSED');
  await requestPart(owed, 500, 'two');

  expect(await owed.refund()).toBe('refunded');

  const [lost, repeated, next] = owed.script.asked;
  expect(repeated).toEqual(lost);
  expect(next).toMatchObject({ amount: 500 });
  expect(owed.script.book.map(({ amount }) => amount)).toEqual([1_000, 500]);
});

test('refundPayment makes a part anew that failed, though a later part of the same size reached its sum', async () => {
  const owed = await openPaid({ isDue: false });
  await requestPart(owed, 1_000, 'one');
  await requestPart(owed, 1_000, 'two');
  owed.script.answers('pending', 'pending');
  expect(await owed.refund()).toBe('pending');
  const { book } = owed.script;
  book.splice(
    0,
    2,
    ...book.map((each, i) => ({ ...each, status: i === 0 ? 'failed' : 'succeeded' }) as const),
  );

  // Its key is that of the second part, which the provider repeats; the next try has another key.
  await expect(owed.refund()).rejects.toThrow('was made before');
  expect(await owed.refund()).toBe('refunded');

  expect(book.map(({ amount, status }) => [amount, status])).toEqual([
    [1_000, 'failed'],
    [1_000, 'succeeded'],
    [1_000, 'succeeded'],
  ]);
  expect(await owed.status()).toEqual(['applied']);
});

test('refundPayment sends what a chargeback had held up, though it is as much as was sent before', async () => {
  const { refund, status, script, order } = await openDue();
  const half = order.total / 2;
  const dispute = buildDispute(order, half);
  script.enter(half, 'pending', dispute);
  expect(await refund()).toBe('pending');
  await stage.stores.refunds.recordReversals('sandbox', [{ ...dispute, status: 'failed' }]);
  script.book[0] = { ...dispute, status: 'failed' };

  await expect(refund()).rejects.toThrow('was made before');
  expect(await refund()).toBe('refunded');

  expect(script.book.slice(1).map(({ amount }) => amount)).toEqual([half, half]);
  expect(await status()).toEqual(['refunded']);
});

test('refundPayment sends nothing twice where the list lags behind what a notice has reported', async () => {
  const owed = await openPaid({ isDue: false });
  const { script, refund } = owed;
  script.stopList();
  await requestPart(owed, 1_000, 'one');
  // Provider staff have sent it, the notice came, and the list does not show it yet.
  await stage.stores.refunds.recordReversals('sandbox', [script.enter(1_000, 'succeeded')], 'provider');
  await requestPart(owed, 500, 'two');

  expect(await refund()).toBe('refunded');

  expect(script.asked.map(({ amount }) => amount)).toEqual([500]);
  expect(await owed.status()).toEqual(['applied']);
});

test('refundPayment sends nothing twice where the list lags behind its own earlier answers', async () => {
  const owed = await openPaid({ isDue: false });
  owed.script.stopList();
  await requestPart(owed, 1_000, 'one');
  expect(await owed.refund()).toBe('refunded');
  await requestPart(owed, 500, 'two');
  expect(await owed.refund()).toBe('refunded');
  await stage.stores.refunds.request(owed.paymentId, 'olga');

  expect(await owed.refund()).toBe('refunded');

  expect(owed.script.asked.map(({ amount }) => amount)).toEqual([1_000, 500, owed.order.total - 1_500]);
});

test('refundPayment waits for a list that shows as pending what a notice has reported as failed', async () => {
  const { refund, script, status } = await openDue();
  script.answers('pending');
  await refund();
  script.stopList();
  script.turn('failed');
  await stage.stores.refunds.recordReversals('sandbox', script.book, 'provider');

  expect(await refund()).toBe('pending');

  expect(script.asked).toHaveLength(1);
  expect(await status()).toEqual(['refund_due']);
});

test('refundPayment asks by the payment and not by its number, so that one account of two shops meets no key', async () => {
  const keys: Keys = new Map();
  const shops = await Promise.all([openStage(), openStage()]);
  onTestFinished(async () => {
    for (const { stores } of shops) await stores.close();
  });
  const owed = await Promise.all(shops.map((shop) => openPaid({ isDue: true, shop, keys })));
  expect(owed[0]?.paymentId).toBe(owed[1]?.paymentId);

  for (const { refund } of owed) expect(await refund()).toBe('refunded');

  for (const { script, status, order } of owed) {
    expect(script.book.map(({ amount }) => amount)).toEqual([order.total]);
    expect(await status()).toEqual(['refunded']);
  }
});

test('refundPayment asks under the same key for the same part of the same payment, whatever MySQL has lost', async () => {
  const owed = await openPaid({ isDue: false });
  const { script, paymentId } = owed;
  script.stopList();
  await requestPart(owed, 1_000, 'one');
  await owed.refund();
  // MySQL is set back to before the request, and staff enter it again.
  const { pool } = stage.stores;
  const name = `pay-${owed.order.orderNo}`;
  await pool.query('DELETE FROM reversals WHERE provider_payment_id = ?', [name]);
  await pool.query('DELETE FROM refunds WHERE payment_id = ?', [paymentId]);
  await pool.query(
    `UPDATE payments SET status = 'applied', refund_target = 0, refund_reason = NULL WHERE payment_id = ?`,
    [paymentId],
  );
  await requestPart(owed, 1_000, 'one');

  expect(await owed.refund()).toBe('refunded');

  expect(script.book.map(({ amount }) => amount)).toEqual([1_000]);
  expect(await owed.status()).toEqual(['applied']);
});

test('a refund goes by the name of its payment where MySQL has given its number to another', async () => {
  const [lost, other] = [await openDue(), await openDue()];
  // A run of the lost payment's workflow, whose number is the other's now.
  const which = {
    paymentId: other.paymentId,
    provider: 'sandbox',
    providerPaymentId: `pay-${lost.order.orderNo}`,
  };
  await stage.stores.pool.query('DELETE FROM payments WHERE payment_id = ?', [lost.paymentId]);

  expect(await lost.steps.refundPayment(which)).toBe('nothing-due');
  await lost.steps.parkRefund({ ...which, reason: 'for the test' });
  await lost.steps.giveBack(which);
  await lost.steps.unparkRefund(which);

  expect([...lost.script.asked, ...other.script.asked]).toEqual([]);
  expect(await other.status()).toEqual(['refund_due']);
  const sql = 'SELECT reason FROM parked WHERE reference = ?';
  const parked = await selectRows(stage.stores.pool, z.object({ reason: z.string() }), sql, [
    `pay-${other.order.orderNo}`,
  ]);
  expect(parked).toEqual([]);
});

test.each([
  ['of many characters', 'p'.repeat(128)],
  ['of any characters', 'Zahlung #7: 90 €\u0007'],
])('the key of a refund is one that every provider takes, for a payment id %s', async (_, name) => {
  const { refund, script } = await openPaid({ isDue: true, name });
  expect(await refund()).toBe('refunded');
  expect(script.asked.map(({ refundKey }) => IDEMPOTENCY_KEY_PATTERN.test(refundKey))).toEqual([true]);
});

test('refundPayment sends a part while Redis is away, to which an earlier one is to give its units back', async () => {
  const owed = await openPaid({ isDue: false });
  const items = [{ sku: 'lamp', quantity: 1 }];
  await stage.stores.refunds.requestByOrder(
    owed.order.orderNo,
    { kind: 'units', items, amount: 1_000, charges: false, restock: true, restoresLimit: true },
    { actor: 'olga', reason: null },
    { idempotencyKey: 'units', fingerprint: 'f' },
  );
  await owed.refund();
  await requestPart(owed, 500, 'more');
  const { stores } = stage;
  const project = () => Promise.reject(new Error('Redis is away'));
  const cutOff = createActivities({
    ...stores,
    provider: owed.script.provider,
    reservations: { ...stores.reservations, project },
  });

  await expect(cutOff.refundPayment(owed)).rejects.toThrow('Redis is away');

  expect(owed.script.book.map(({ amount }) => amount)).toEqual([1_000, 500]);
  expect(await owed.status()).toEqual(['applied']);
  expect(await owed.refund()).toBe('nothing-due');
  expect((await stage.look(owed.order)).redis).toEqual({ available: 10, held: 0, sold: 0 });
});

describe('a refund that the provider refuses for good', () => {
  const refundsOf = async ({ order }: Owed) =>
    (await stage.stores.refunds.readRefundsOf(order.orderNo)).map(({ amount, status, refusal }) => [
      amount,
      status,
      refusal?.code ?? null,
    ]);
  const refusalOf = async ({ paymentId }: Owed) => (await stage.stores.refunds.read({ paymentId }))?.refusal;

  test('is asked for once, and stops with what the provider said', async () => {
    const owed = await openDue();
    owed.script.answers('refused-for-good');

    expect(await owed.refund()).toEqual({
      cause: 'refund_refused',
      reason: 'the provider refused the refund: charge_disputed: There is an open dispute about it.',
    });

    expect(owed.script.asked).toHaveLength(1);
    expect(await owed.status()).toEqual(['refund_due']);
    expect(await refusalOf(owed)).toEqual(SAID);
    expect(await refundsOf(owed)).toEqual([[owed.order.total, 'requested', SAID.code]]);
  });

  test('is asked for under another key once something is changed, and what was said is forgotten', async () => {
    const owed = await openDue();
    owed.script.answers('refused-for-good', 'pending');
    await owed.refund();

    expect(await owed.refund()).toBe('pending');

    const [first, second] = owed.script.asked;
    expect(second?.refundKey).not.toBe(first?.refundKey);
    expect(await refusalOf(owed)).toBeNull();
    expect(await refundsOf(owed)).toEqual([[owed.order.total, 'requested', null]]);
    owed.script.turn('succeeded');
    expect(await owed.refund()).toBe('refunded');
  });

  test.each(['refused-for-good', 'refused'] as const)(
    'or for now (%s) holds up no other request for the same payment, and is sent when it can be',
    async (answer) => {
      const owed = await openPaid({ isDue: false });
      await requestPart(owed, 1_000, 'one');
      await requestPart(owed, 300, 'two');
      await requestPart(owed, 200, 'three');
      owed.script.answers(answer, 'succeeded', 'succeeded', answer);

      const outcome = owed.refund();
      if (answer === 'refused') await expect(outcome).rejects.toThrow('no money on the account');
      else expect(await outcome).toMatchObject({ cause: 'refund_refused' });

      expect(owed.script.asked.map(({ amount }) => amount)).toEqual([1_000, 300, 200]);
      const code = answer === 'refused' ? 'no_money' : SAID.code;
      expect(await refundsOf(owed)).toEqual([
        [1_000, 'requested', code],
        [300, 'succeeded', null],
        [200, 'succeeded', null],
      ]);
      expect(await owed.status()).toEqual(['refund_due']);

      owed.script.answers();
      expect(await owed.refund()).toBe('refunded');
      expect(owed.script.book.map(({ amount }) => amount)).toEqual([300, 200, 1_000]);
      expect(await owed.status()).toEqual(['applied']);
      expect(await refusalOf(owed)).toBeNull();
    },
  );

  test('is asked for once a run, however many there are', async () => {
    const owed = await openPaid({ isDue: false });
    await requestPart(owed, 1_000, 'one');
    await requestPart(owed, 300, 'two');
    owed.script.answers('refused-for-good', 'refused-for-good', 'refused-for-good');

    expect(await owed.refund()).toMatchObject({ cause: 'refund_refused' });

    expect(owed.script.asked.map(({ amount }) => amount)).toEqual([1_000, 300]);
    expect(await refundsOf(owed)).toEqual([
      [1_000, 'requested', SAID.code],
      [300, 'requested', SAID.code],
    ]);
  });

  test('can be withdrawn, also after another one went first; its words stay with it', async () => {
    const owed = await openPaid({ isDue: false });
    await requestPart(owed, 1_000, 'one');
    await requestPart(owed, 300, 'two');
    owed.script.answers('refused-for-good');
    await owed.refund();
    const [first] = await stage.stores.refunds.readRefundsOf(owed.order.orderNo);

    const by = { actor: 'olga', reason: null };
    expect(await stage.stores.refunds.withdraw(owed.order.orderNo, first?.refundId ?? 0, by)).toMatchObject({
      kind: 'withdrawn',
    });

    expect(await owed.status()).toEqual(['applied']);
    expect(await refundsOf(owed)).toEqual([
      [1_000, 'failed', SAID.code],
      [300, 'succeeded', null],
    ]);
    expect(await refusalOf(owed)).toBeNull();
    await requestPart(owed, owed.order.total - 300, 'rest');
    expect(await owed.refund()).toBe('refunded');
    expect(await owed.status()).toEqual(['refunded']);
  });

  test('lets a request without money go first that was made after it', async () => {
    const owed = await openPaid({ isDue: false });
    await requestPart(owed, 1_000, 'one');
    const units = [{ sku: 'lamp', quantity: 1 }];
    await stage.stores.refunds.requestByOrder(
      owed.order.orderNo,
      { kind: 'units', items: units, amount: 0, charges: false, restock: true, restoresLimit: true },
      { actor: 'olga', reason: null },
      { idempotencyKey: 'units', fingerprint: 'f' },
    );
    await requestPart(owed, 300, 'two');
    owed.script.answers('refused-for-good');

    expect(await owed.refund()).toMatchObject({ cause: 'refund_refused' });

    expect(await refundsOf(owed)).toEqual([
      [1_000, 'requested', SAID.code],
      [0, 'succeeded', null],
      [300, 'succeeded', null],
    ]);
  });
});

describe('a refund in a state that is not known', () => {
  const NEW = { unknownState: 'a_new_word' };

  /** MySQL has known its state for so long. */
  const ageBy = ({ order }: Owed, minutes: number) =>
    stage.stores.pool.query(
      'UPDATE reversals SET unknown_since = unknown_since - INTERVAL ? MINUTE WHERE provider_payment_id = ?',
      [minutes, `pay-${order.orderNo}`],
    );

  test('is waited for an hour, and then stops with the name of the state', async () => {
    const owed = await openPaid({ isDue: false });
    owed.script.enter(1_000, 'pending', NEW);
    await requestPart(owed, 1_000, 'one');
    expect(await owed.refund()).toBe('pending');
    await ageBy(owed, 59);
    expect(await owed.refund()).toBe('pending');
    await ageBy(owed, 2);

    expect(await owed.refund()).toMatchObject({
      cause: 'refund_unclear',
      reason: expect.stringMatching(
        /of 10\.00 EUR is in the state a_new_word at the provider, which is not known/,
      ),
    });

    // A part: were it sent besides, the payer might get it twice.
    expect(owed.script.asked).toEqual([]);
    expect(await owed.status()).toEqual(['refund_due']);
  });

  test('ends like any other once the provider names a state that is known', async () => {
    const owed = await openPaid({ isDue: false });
    const made = owed.script.enter(1_000, 'pending', NEW);
    await requestPart(owed, 1_000, 'one');
    await owed.refund();
    await ageBy(owed, 61);
    const { unknownState: _, ...known } = made;
    owed.script.book[0] = known;
    expect(await owed.refund()).toBe('pending');
    owed.script.turn('succeeded');
    expect(await owed.refund()).toBe('refunded');
    expect(await owed.status()).toEqual(['applied']);
  });

  test('holds up no later part', async () => {
    const owed = await openPaid({ isDue: false });
    await stage.stores.refunds.recordReversals(
      'sandbox',
      [owed.script.enter(1_000, 'pending', NEW)],
      'provider',
    );
    await ageBy(owed, 61);
    await requestPart(owed, 300, 'one');

    await owed.refund();

    expect(owed.script.asked.map(({ amount }) => amount)).toEqual([300]);
  });

  test('does not hold up the refund of all the money for good: the rest is asked for, and the provider decides', async () => {
    const owed = await openDue();
    owed.script.enter(1_000, 'pending', NEW);
    expect(await owed.refund()).toBe('pending');
    expect(owed.script.asked.map(({ amount }) => amount)).toEqual([owed.order.total - 1_000]);
    await ageBy(owed, 61);

    expect(await owed.refund()).toBe('refunded');

    expect(owed.script.asked.map(({ amount }) => amount)).toEqual([owed.order.total - 1_000, 1_000]);
    expect(await owed.status()).toEqual(['refunded']);
  });

  test('stops, with the state and what the provider said, where the provider counts it and refuses the rest', async () => {
    const owed = await openDue();
    owed.script.enter(owed.order.total, 'pending', NEW);
    await owed.refund();
    await ageBy(owed, 61);
    owed.script.answers('refused-for-good');

    expect(await owed.refund()).toMatchObject({
      cause: 'refund_unclear',
      reason: expect.stringMatching(
        /in the state a_new_word .*; the provider refused the refund: charge_disputed/,
      ),
    });

    expect(owed.script.asked).toHaveLength(1);
    owed.script.turn('succeeded');
    expect(await owed.refund()).toBe('refunded');
    expect(await owed.status()).toEqual(['refunded']);
  });

  test('of our own is asked for no second time within the hour', async () => {
    const owed = await openDue();
    const { provider } = owed.script;
    const steps = stage.openSteps({
      ...provider,
      refund: async (request) => ({ ...(await provider.refund(request)), ...NEW }),
      listReversals: async () => (await provider.listReversals()).map((one) => ({ ...one, ...NEW })),
    });
    owed.script.answers('pending');
    expect(await steps.refundPayment(owed)).toBe('pending');
    expect(await steps.refundPayment(owed)).toBe('pending');
    expect(owed.script.asked).toHaveLength(1);
  });

  test('wakes the workflow by the notice of a state that is known', async () => {
    const owed = await openDue();
    const made = owed.script.enter(owed.order.total, 'pending', NEW);
    await owed.refund();
    const dueRows = () =>
      selectRows(
        stage.stores.pool,
        z.object({ due: z.coerce.boolean() }),
        'SELECT engine_due_at IS NOT NULL AS due FROM payments WHERE payment_id = ?',
        [owed.paymentId],
      );
    await stage.stores.pool.query('UPDATE payments SET engine_due_at = NULL');
    await stage.stores.refunds.recordReversals('sandbox', [made], 'provider');
    expect(await dueRows()).toEqual([{ due: false }]);
    const { unknownState: _, ...known } = made;
    await stage.stores.refunds.recordReversals('sandbox', [known], 'provider');
    expect(await dueRows()).toEqual([{ due: true }]);
  });
});

test('refundPayment leaves money alone that another provider collected', async () => {
  const { paymentId, script, status } = await openDue();
  const steps = stage.openSteps({ ...script.provider, name: 'another' });
  await expect(steps.refundPayment({ paymentId })).rejects.toThrow('collected by sandbox');
  expect(await status()).toEqual(['refund_due']);
});

test('giveBack lets pollers see that the money is back, and gives the allowance back once', async () => {
  const { refund, steps, order, paymentId } = await openDue();
  await refund();

  const world = await giveBackTwice(steps, paymentId, order);

  expect(world.stored).toMatchObject({ status: 'paid', payment: 'refunded' });
  expect(world.projected).toEqual(world.stored);
  // The units stay sold until an operator returns them to the stock.
  expect(world.redis).toEqual({ available: 9, held: 0, sold: 1 });
  expect(await readLimits(order)).toEqual({});
});

test('giveBack puts units on sale again that an operator returned to the stock', async () => {
  const { refund, steps, order, paymentId } = await openDue();
  await refund();
  await stage.stores.refunds.returnStock(order.orderNo, 'olga');

  const world = await giveBackTwice(steps, paymentId, order);

  expect(world.mysql).toEqual({ held: 0, sold: 0 });
  expect(world.redis).toEqual({ available: 10, held: 0, sold: 0 });
});

test('giveBack fails while Redis has the order not as sold yet, so that it is tried again', async () => {
  const order = await stage.reserveOrder();
  const script = createScript(`pay-${order.orderNo}`, order.currency);
  const steps = stage.openSteps(script.provider);
  await steps.persistOrder({ order });
  const { orderNo, total: amount, currency } = order;
  await stage.stores.payments.record('sandbox', {
    providerPaymentId: `pay-${orderNo}`,
    orderNo,
    amount,
    currency,
    signedOrder: null,
  });
  // Redis was away just then.
  await stage.stores.orders.markPaid(orderNo);
  const paymentId = await paymentIdOf(order);
  await stage.stores.refunds.request(paymentId, 'olga');
  await steps.refundPayment({ paymentId });

  await expect(steps.giveBack({ paymentId })).rejects.toThrow('not sold in Redis');
  await steps.confirmStock({ orderNo });
  await steps.giveBack({ paymentId });

  expect(await readLimits(order)).toEqual({});
});

test('giveBack changes nothing for money that never paid for an order', async () => {
  const order = await stage.reserveOrder();
  const steps = stage.openSteps();
  await steps.abandonOrder({ order, reason: 'unknown_sku' });
  await stage.stores.payments.record('sandbox', {
    providerPaymentId: `pay-${order.orderNo}`,
    orderNo: order.orderNo,
    amount: order.total,
    currency: order.currency,
    signedOrder: null,
  });
  const before = await stage.look(order);
  await steps.giveBack({ paymentId: await paymentIdOf(order) });
  expect((await stage.look(order)).redis).toEqual(before.redis);
});

test('parkRefund shows the payment to an operator, unparkRefund no longer', async () => {
  const { steps, paymentId, order } = await openDue();
  const openRows = async () => {
    const rows = await selectRows(
      stage.stores.pool,
      z.object({ reason: z.string() }),
      `SELECT reason FROM parked WHERE kind = 'refund' AND reference = ? AND resolved_at IS NULL`,
      [`pay-${order.orderNo}`],
    );
    return rows.map(({ reason }) => reason);
  };
  await steps.parkRefund({ paymentId, reason: 'refused' });
  await steps.parkRefund({ paymentId, reason: 'refused again' });
  expect(await openRows()).toEqual(['refused']);
  await steps.unparkRefund({ paymentId });
  expect(await openRows()).toEqual([]);
});

/** Takes the step twice and expects the same rows and counts after each. */
async function giveBackTwice(steps: RefundActivities, paymentId: number, order: Order) {
  await steps.giveBack({ paymentId });
  const world = await stage.look(order);
  await steps.giveBack({ paymentId });
  expect(await stage.look(order)).toEqual(world);
  return world;
}

/** What the order's user has bought of the sale, as Redis counts it. */
function readLimits({ saleId }: Order): Promise<Record<string, string>> {
  return stage.stores.redis.hgetall(saleKeys({ saleId, shard: 0 }).limits);
}
