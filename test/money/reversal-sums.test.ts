/** How refunds and disputes of one payment add up, and which status they give the payment. */

import { describe, expect, test } from 'vitest';
import {
  type PaymentStatus,
  type Reversal,
  isTouched,
  isUnrequested,
  statusAfter,
  sumRefunds,
  sumReversals,
} from '../../src/money/payment.ts';

function buildReversal(overrides: Partial<Reversal> = {}) {
  return { kind: 'refund', amount: 1_000, currency: 'EUR', status: 'succeeded', ...overrides } as const;
}

const NOTHING = { succeeded: 0, pending: 0, isDisputed: false, isMixed: false };

describe('the sum of reversals', () => {
  test('of none is nothing', () => {
    expect(sumReversals('EUR', [])).toEqual(NOTHING);
  });

  test('keeps what succeeded apart from what is pending', () => {
    const reversals = [
      buildReversal({ amount: 900 }),
      buildReversal({ kind: 'dispute', amount: 100 }),
      buildReversal({ amount: 30, status: 'pending' }),
    ];
    expect(sumReversals('EUR', reversals)).toEqual({ ...NOTHING, succeeded: 1_000, pending: 30 });
  });

  test('leaves failed ones out, whatever their currency', () => {
    const reversals = [
      buildReversal({ status: 'failed' }),
      buildReversal({ kind: 'dispute', status: 'failed' }),
      buildReversal({ currency: 'USD', status: 'failed' }),
    ];
    expect(sumReversals('EUR', reversals)).toEqual(NOTHING);
  });

  test('counts an open dispute as pending and says that the payment is disputed', () => {
    const dispute = buildReversal({ kind: 'dispute', status: 'pending' });
    expect(sumReversals('EUR', [dispute])).toEqual({ ...NOTHING, pending: 1_000, isDisputed: true });
  });

  test('does not call a payment disputed for a pending refund, nor for a dispute that is over', () => {
    const reversals = [
      buildReversal({ status: 'pending' }),
      buildReversal({ kind: 'dispute', status: 'succeeded' }),
    ];
    expect(sumReversals('EUR', reversals).isDisputed).toBe(false);
  });

  test.each(['succeeded', 'pending'] as const)(
    'flags what %s in another currency, and never adds it',
    (status) => {
      const reversals = [buildReversal({ currency: 'USD', amount: 4_000, status }), buildReversal()];
      expect(sumReversals('EUR', reversals)).toEqual({ ...NOTHING, succeeded: 1_000, isMixed: true });
    },
  );

  test('of disputes in another currency is disputed as well as mixed', () => {
    const dispute = buildReversal({ kind: 'dispute', currency: 'USD', status: 'pending' });
    expect(sumReversals('EUR', [dispute])).toEqual({ ...NOTHING, isDisputed: true, isMixed: true });
  });

  test('is in the currency of the payment, not in that of most reversals', () => {
    const reversals = [buildReversal({ currency: 'USD' }), buildReversal({ currency: 'USD' })];
    expect(sumReversals('USD', reversals)).toEqual({ ...NOTHING, succeeded: 2_000 });
    expect(sumReversals('EUR', reversals)).toEqual({ ...NOTHING, isMixed: true });
  });
});

test.each([
  [{}, false],
  [{ succeeded: 1 }, true],
  [{ pending: 1 }, true],
  [{ isMixed: true }, true],
])('totals of %j touch the payment: %s', (totals, expected) => {
  expect(isTouched({ ...NOTHING, ...totals })).toBe(expected);
});

describe('the status after reversals', () => {
  const after = (status: PaymentStatus, totals: Partial<typeof NOTHING>, mayPayAgain = false) =>
    statusAfter(
      { amount: 1_000, status, refundTarget: status === 'refund_due' ? 1_000 : 0 },
      { ...NOTHING, ...totals },
      { refunded: totals.succeeded ?? 0, mayPayAgain },
    );

  test.each(['received', 'applied', 'parked', 'refund_due', 'refunded'] as const)(
    'is refunded once all of a payment that was %s has gone back',
    (status) => {
      expect(after(status, { succeeded: 1_000 })).toBe('refunded');
    },
  );

  test.each([{ succeeded: 1 }, { pending: 1_000 }, { isMixed: true }])(
    'parks a received payment of which %j went back or may',
    (totals) => {
      expect(after('received', totals)).toBe('parked');
    },
  );

  test('stays received where nothing went back', () => {
    expect(after('received', {})).toBe('received');
  });

  test.each(['applied', 'parked', 'refund_due'] as const)('stays %s after a part has gone back', (status) => {
    expect(after(status, { succeeded: 999 })).toBe(status);
  });

  test('is refund_due again when a refund fails after it had succeeded', () => {
    expect(after('refunded', {})).toBe('refund_due');
  });

  test('is applied again when the shop has won the dispute', () => {
    expect(after('refunded', {}, true)).toBe('applied');
  });

  test.each([
    ['refund_due', 300, 'applied'],
    ['refund_due', 299, 'refund_due'],
    ['applied', 300, 'applied'],
    ['applied', 299, 'refund_due'],
  ] as const)(
    'is, where %s was to go back up to 300 and %d were refunded, %s',
    (status, refunded, expected) => {
      const totals = { ...NOTHING, succeeded: refunded };
      const payment = { amount: 1_000, status, refundTarget: 300 };
      expect(statusAfter(payment, totals, { refunded, mayPayAgain: false })).toBe(expected);
    },
  );

  test('does not take a lost chargeback for a part that was requested', () => {
    const payment = { amount: 1_000, status: 'refund_due', refundTarget: 300 } as const;
    const totals = { ...NOTHING, succeeded: 400 };
    expect(statusAfter(payment, totals, { refunded: 0, mayPayAgain: false })).toBe('refund_due');
  });
});

describe('money that goes back', () => {
  const isShown = (refundTarget: number, ...reversals: ReturnType<typeof buildReversal>[]) =>
    isUnrequested({ refundTarget }, sumReversals('EUR', reversals), sumRefunds('EUR', reversals));

  test('is as requested up to the target, pending or done', () => {
    expect(isShown(0)).toBe(false);
    expect(isShown(1_030, buildReversal(), buildReversal({ amount: 30, status: 'pending' }))).toBe(false);
  });

  test('is shown beyond the target, by a chargeback, and in another currency', () => {
    expect(isShown(999, buildReversal())).toBe(true);
    expect(isShown(0, buildReversal({ status: 'pending' }))).toBe(true);
    expect(isShown(1_000, buildReversal({ kind: 'dispute' }))).toBe(true);
    expect(isShown(1_000, buildReversal({ currency: 'USD', amount: 1 }))).toBe(true);
  });
});
