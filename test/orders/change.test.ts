/** What becomes of an order, by its state and by what somebody wants of it: every state and every wish. */

import { describe, expect, test } from 'vitest';
import { MAX_PAYMENT_WINDOW_MS } from '../../src/limits.ts';
import {
  decide,
  type Change,
  type Circumstances,
  type LockedOrder,
  type Refusal,
  type Wish,
} from '../../src/orders/change.ts';
import type { OrderState } from '../../src/orders/order.ts';
import { buildOrder } from '../support/factories.ts';

const STATES = {
  open: {},
  closing: { reason: 'shopper_request' },
  'called off': { reason: 'called_off' },
  paid: { status: 'paid', payment: 'applied' },
  disputed: { status: 'paid', payment: 'disputed' },
  refunded: { status: 'paid', payment: 'refunded', refunded: 4_900 },
  cancelled: { status: 'cancelled', reason: 'payment_timeout' },
  failed: { status: 'failed', reason: 'lost_hold' },
} as const satisfies Record<string, Partial<OrderState>>;

const ORDER = buildOrder();
const DEADLINE_MS = ORDER.reservedAtMs + ORDER.paymentWindowMs;
const LATEST_MS = ORDER.reservedAtMs + MAX_PAYMENT_WINDOW_MS;

const OPEN: OrderState = { status: 'awaiting_payment', version: 5, payment: 'none', reason: null };

const stateOf = (name: keyof typeof STATES): OrderState => ({ ...OPEN, ...STATES[name] });

/** What a column of a table asks, and in which circumstances. */
interface Asked {
  wish: Wish;
  beside?: Partial<Circumstances & Pick<LockedOrder, 'mayRun' | 'isEnding'>>;
}

const ask = (state: OrderState, { wish, beside }: Asked): Change | Refusal =>
  decide(
    {
      order: ORDER,
      state,
      mayRun: false,
      isEnding: false,
      hasOpenPage: false,
      extensionLeftMs: 0,
      ...beside,
    },
    wish,
  );

const pay: Wish = { kind: 'pay', amount: ORDER.total, currency: ORDER.currency };
const cancel = { kind: 'cancel', reason: 'payment_timeout', force: false, byWorkflow: true } as const;
const byEnder = { ...cancel, byWorkflow: false };
const close: Wish = { kind: 'close', reason: 'operator_request' };
const callOff: Wish = { kind: 'close', reason: 'called_off' };
const extendTo = (untilMs: number): Wish => ({ kind: 'extend', untilMs, nowMs: ORDER.reservedAtMs });
const money = (payment: OrderState['payment'], refunded = 0): Wish => ({ kind: 'money', payment, refunded });
const page = { hasOpenPage: true };

/**
 * A cell says what is decided. `a, b`: the order passes through both states, a version each. `(sell)`: the
 * movement of its stock. `→ workflow`: who goes on. Any other word: the wish is refused, and nothing changes.
 */
const TABLES: Record<Wish['kind'], readonly { columns: Record<string, Asked>; table: string }[]> = {
  pay: [
    {
      columns: {
        'its price': { wish: pay },
        'less than it': { wish: { ...pay, amount: 4_899 } },
        'more than it': { wish: { ...pay, amount: 4_901 } },
        'another currency': { wish: { ...pay, currency: 'USD' } },
      },
      table: `
                   | its price                | less than it | more than it | another currency
        open       | paid (sell)              | wrong-amount | wrong-amount | wrong-amount
        closing    | paid (sell)              | wrong-amount | wrong-amount | wrong-amount
        called off | refund called_off        | wrong-amount | wrong-amount | wrong-amount
        paid       | refund duplicate_payment | wrong-amount | wrong-amount | wrong-amount
        disputed   | refund duplicate_payment | wrong-amount | wrong-amount | wrong-amount
        refunded   | refund duplicate_payment | wrong-amount | wrong-amount | wrong-amount
        cancelled  | refund order_ended       | wrong-amount | wrong-amount | wrong-amount
        failed     | refund order_ended       | wrong-amount | wrong-amount | wrong-amount`,
    },
    {
      columns: {
        'while a page is open': { wish: pay, beside: page },
        'while its pages are being voided': { wish: pay, beside: { ...page, isEnding: true } },
        'while its workflow may run': { wish: pay, beside: { mayRun: true } },
      },
      table: `
                   | while a page is open     | while its pages are being voided | while its workflow may run
        open       | paid (sell)              | paid (sell)                      | paid (sell)
        closing    | paid (sell)              | paid (sell)                      | paid (sell)
        called off | refund called_off        | refund called_off                | refund called_off
        paid       | refund duplicate_payment | refund duplicate_payment         | refund duplicate_payment
        disputed   | refund duplicate_payment | refund duplicate_payment         | refund duplicate_payment
        refunded   | refund duplicate_payment | refund duplicate_payment         | refund duplicate_payment
        cancelled  | refund order_ended       | refund order_ended               | refund order_ended
        failed     | refund order_ended       | refund order_ended               | refund order_ended`,
    },
  ],
  'apply-payments': [
    {
      columns: {
        'without a payment': { wish: { kind: 'apply-payments', byWorkflow: false } },
        'by its workflow': { wish: { kind: 'apply-payments', byWorkflow: true } },
      },
      table: `
                   | without a payment | by its workflow
        open       | same              | same
        closing    | same              | same
        called off | same              | same
        paid       | same              | same
        disputed   | same              | same
        refunded   | same              | same
        cancelled  | same              | same
        failed     | same              | same`,
    },
  ],
  cancel: [
    {
      columns: {
        'by its workflow': { wish: cancel },
        'a page is open': { wish: cancel, beside: page },
        'a page is open, by force': { wish: { ...cancel, force: true }, beside: page },
      },
      table: `
                   | by its workflow              | a page is open | a page is open, by force
        open       | closing, cancelled (release) | closing        | closing, cancelled (release)
        closing    | cancelled (release)          | same           | cancelled (release)
        called off | cancelled (release)          | same           | cancelled (release)
        paid       | ended                        | ended          | ended
        disputed   | ended                        | ended          | ended
        refunded   | ended                        | ended          | ended
        cancelled  | ended                        | ended          | ended
        failed     | ended                        | ended          | ended`,
    },
    {
      columns: {
        'by the ender': { wish: byEnder },
        'a page is open': { wish: byEnder, beside: page },
        'pages being voided': { wish: byEnder, beside: { ...page, isEnding: true } },
        'by force': { wish: { ...byEnder, force: true }, beside: { ...page, isEnding: true } },
      },
      table: `
                   | by the ender                 | a page is open  | pages being voided | by force
        open       | closing, cancelled (release) | closing → ender | closing → ender    | closing, cancelled (release)
        closing    | cancelled (release)          | → ender         | same               | cancelled (release)
        called off | cancelled (release)          | → ender         | same               | cancelled (release)
        paid       | ended                        | ended           | ended              | ended
        disputed   | ended                        | ended           | ended              | ended
        refunded   | ended                        | ended           | ended              | ended
        cancelled  | ended                        | ended           | ended              | ended
        failed     | ended                        | ended           | ended              | ended`,
    },
  ],
  close: [
    {
      columns: {
        'for a person': { wish: close },
        'while its workflow may run': { wish: close, beside: { mayRun: true } },
        'called off': { wish: callOff },
        'called off, it may run': { wish: callOff, beside: { mayRun: true } },
      },
      table: `
                   | for a person       | while its workflow may run | called off      | called off, it may run
        open       | closing → workflow | closing → workflow         | closing → ender | closing → workflow
        closing    | same               | same                       | same            | same
        called off | same               | same                       | same            | same
        paid       | ended              | ended                      | ended           | ended
        disputed   | ended              | ended                      | ended           | ended
        refunded   | ended              | ended                      | ended           | ended
        cancelled  | ended              | ended                      | ended           | ended
        failed     | ended              | ended                      | ended           | ended`,
    },
  ],
  extend: [
    {
      columns: {
        'to a later time': { wish: extendTo(LATEST_MS) },
        'to the same time': { wish: extendTo(DEADLINE_MS) },
        'to an earlier one': { wish: extendTo(DEADLINE_MS - 1) },
        'beyond a day': { wish: extendTo(LATEST_MS + 1) },
        'while it is ended': { wish: extendTo(LATEST_MS), beside: { isEnding: true } },
      },
      table: `
                   | to a later time | to the same time | to an earlier one | beyond a day | while it is ended
        open       | extended        | same             | out-of-range      | out-of-range | not-open
        closing    | not-open        | not-open         | not-open          | not-open     | not-open
        called off | not-open        | not-open         | not-open          | not-open     | not-open
        paid       | not-open        | not-open         | not-open          | not-open     | not-open
        disputed   | not-open        | not-open         | not-open          | not-open     | not-open
        refunded   | not-open        | not-open         | not-open          | not-open     | not-open
        cancelled  | not-open        | not-open         | not-open          | not-open     | not-open
        failed     | not-open        | not-open         | not-open          | not-open     | not-open`,
    },
  ],
  // Only a paid order has a payment that counts, so nobody asks this of another. The status does not matter.
  money: [
    {
      columns: {
        'nothing went back': { wish: money('applied') },
        'a dispute is open': { wish: money('disputed') },
        'all went back': { wish: money('refunded', 4_900) },
      },
      table: `
                   | nothing went back | a dispute is open | all went back
        open       | applied           | disputed          | refunded
        closing    | applied           | disputed          | refunded
        called off | applied           | disputed          | refunded
        paid       | same              | disputed          | refunded
        disputed   | applied           | same              | refunded
        refunded   | applied           | disputed          | same
        cancelled  | applied           | disputed          | refunded
        failed     | applied           | disputed          | refunded`,
    },
  ],
};

/** The word for what a version changed. */
function wordOf(before: OrderState, after: OrderState): string {
  if (after.status !== before.status) return after.status;
  if (after.payment !== before.payment) return after.payment;
  return after.reason === before.reason ? 'extended' : 'closing';
}

function wordsOf(before: OrderState, decided: Change | Refusal): string {
  if (decided.kind === 'refund') return `refund ${decided.reason}`;
  if (decided.kind !== 'changed') return decided.kind;
  const steps = decided.states.map((state, i) => wordOf(decided.states[i - 1] ?? before, state));
  const { movement, next } = decided;
  return [steps.join(', '), movement && `(${movement})`, next && `→ ${next}`].filter(Boolean).join(' ');
}

/** As the tables are written, but for the widths of their columns. */
function draw(columns: Record<string, Asked>): string[] {
  const rows = Object.entries(STATES).map(([name, own]) => {
    const state = { ...OPEN, ...own };
    return [name, ...Object.values(columns).map((asked) => wordsOf(state, ask(state, asked)))];
  });
  return [['', ...Object.keys(columns)], ...rows].map((cells) => cells.join(' | ').trim());
}

const linesOf = (table: string): string[] =>
  table
    .split('\n')
    .slice(1)
    .map((line) =>
      line
        .split('|')
        .map((cell) => cell.trim())
        .join(' | ')
        .trim(),
    );

describe.each(Object.entries(TABLES))('the wish %s', (_, tables) => {
  const named = tables.map((one) => [Object.keys(one.columns).join(', '), one] as const);
  test.each(named)('is decided for an order in every state: %s', (_names, { columns, table }) => {
    expect(draw(columns)).toEqual(linesOf(table));
  });
});

/** The states that a change passes through. */
function statesAfter(state: OrderState, asked: Asked): OrderState[] {
  const decided = ask(state, asked);
  if (decided.kind !== 'changed') throw new Error(decided.kind);
  return decided.states;
}

test('a cancel gives an order its reason and then ends it, a version each', () => {
  const reason = 'payment_timeout';
  expect(statesAfter(stateOf('open'), { wish: cancel })).toEqual([
    { ...stateOf('open'), version: 6, reason },
    { ...stateOf('open'), version: 7, reason, status: 'cancelled' },
  ]);
});

test('an order that is closing already is cancelled for the reason that it has', () => {
  expect(statesAfter(stateOf('closing'), { wish: cancel })).toEqual([
    { ...stateOf('closing'), version: 6, status: 'cancelled' },
  ]);
});

test('an order that is closing and is paid has no reason any more, and keeps its deadline', () => {
  const state = { ...stateOf('closing'), extendedUntilMs: LATEST_MS };
  expect(statesAfter(state, { wish: pay })).toEqual([
    { status: 'paid', version: 6, payment: 'applied', reason: null, extendedUntilMs: LATEST_MS },
  ]);
});

test('what went back of the money is added to a paid order, and taken away when it came again', () => {
  const partly = { ...stateOf('paid'), payment: 'partially_refunded', refunded: 900 } as const;
  const [back] = statesAfter(stateOf('paid'), { wish: money('partially_refunded', 900) });
  expect(back).toEqual({ ...partly, version: 6 });
  const [again] = statesAfter(partly, { wish: money('applied') });
  expect(again).toEqual({ ...stateOf('paid'), version: 6 });
});

test('an extended order is not cancelled by the window of its workflow, but at a wish, by force and by the ender', () => {
  const extended = { beside: { extensionLeftMs: 1_000 } };
  const open = stateOf('open');
  expect(ask(open, { wish: cancel, ...extended })).toEqual({ kind: 'extended', leftMs: 1_000 });
  for (const wish of [{ ...cancel, reason: 'shopper_request' }, { ...cancel, force: true }, byEnder] as const)
    expect(wordsOf(open, ask(open, { wish, ...extended }))).toBe('closing, cancelled (release)');
});

test('an extension is refused by the clock where the deadline has passed, with the times that are possible', () => {
  const nowMs = DEADLINE_MS + 60_000;
  const wish = { kind: 'extend', untilMs: nowMs, nowMs } as const;
  expect(ask(stateOf('open'), { wish })).toEqual({
    kind: 'out-of-range',
    afterMs: nowMs,
    untilMs: LATEST_MS,
  });
  const [state] = statesAfter(stateOf('open'), { wish: { ...wish, untilMs: nowMs + 1 } });
  expect(state).toEqual({ ...stateOf('open'), version: 6, extendedUntilMs: nowMs + 1 });
});
