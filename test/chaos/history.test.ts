/** The checker of a chaos trial: a true history has no violations, and each check finds its own. */

import { expect, test } from 'vitest';
import { CHECK_NAMES, checkHistory, endsOf, type History, type Recorded } from '../../chaos/history.ts';
import type { OrderState } from '../../src/orders/order.ts';

const ORDER = 'storm-0-1-A';
const HOLD = { reservedAtMs: 11, items: [{ sku: 'rug', quantity: 1 }] };
const accepted = { startMs: 10, endMs: 12, idempotencyKey: 'key', orderNo: ORDER, ...HOLD };
const answer = {
  orderNo: ORDER,
  version: 1,
  status: 'awaiting_payment',
  payment: 'none',
  reason: null,
  api: 'api-1',
  isNamed: true,
  way: 'call',
} as const;

/** A shopper buys the last of two rugs, pays it, and a second shopper is refused because none is left. */
function buildHistory(changes: Partial<History> = {}): History {
  return {
    acceptances: [accepted],
    answers: [
      { ...answer, startMs: 10, endMs: 12, version: 0, status: 'queued' },
      { ...answer, startMs: 20, endMs: 22 },
      { ...answer, startMs: 40, endMs: 42, version: 3, status: 'paid', payment: 'applied' },
    ],
    denials: [{ startMs: 5, endMs: 6, orderNo: ORDER }],
    payable: [{ startMs: 24, endMs: 26, orderNo: ORDER }],
    stored: [],
    timedOut: [],
    streams: [],
    soldOut: [{ startMs: 30, endMs: 32, sku: 'rug', quantity: 1 }],
    stock: [{ startMs: 8, endMs: 9, available: new Map([['rug', 1]]) }],
    lowered: [],
    losses: [],
    redisStruck: [],
    ...changes,
  };
}

type States = [number, Pick<OrderState, 'status' | 'payment' | 'refunded'>][];
const STATES: States = [
  [1, { status: 'awaiting_payment', payment: 'none' }],
  // Staff have given its shopper more time.
  [2, { status: 'awaiting_payment', payment: 'none' }],
  [3, { status: 'paid', payment: 'applied' }],
];
const CANCELLED_TOO: States = [...STATES, [4, { status: 'cancelled', payment: 'applied' }]];
const CHARGED_BACK: States = [
  ...STATES,
  [4, { status: 'paid', payment: 'disputed' }],
  [5, { status: 'paid', payment: 'refunded' }],
];
const REFUNDED_IN_PARTS: States = [
  ...STATES,
  [4, { status: 'paid', payment: 'partially_refunded', refunded: 100 }],
  [5, { status: 'paid', payment: 'partially_refunded', refunded: 250 }],
];
const APPLIED_WHILE_OPEN: States = [
  ...STATES.slice(0, 1),
  [2, { status: 'awaiting_payment', payment: 'applied' }],
  ...STATES.slice(2),
];
const PAID_WITHOUT_MONEY: States = [...STATES.slice(0, 2), [3, { status: 'paid', payment: 'none' }]];

const recorded: Recorded = {
  states: new Map([[ORDER, new Map(STATES)]]),
  holds: new Map([[ORDER, HOLD]]),
};

/** Accepted, caught by a loss, and said so. */
const LOST_ANSWERS = [
  { ...answer, startMs: 10, endMs: 12, version: 0, status: 'queued' },
  {
    ...answer,
    startMs: 60,
    endMs: 62,
    status: 'failed',
    reason: 'lost_before_stored',
  },
] as const;
const LOST: Partial<History> = {
  answers: [...LOST_ANSWERS],
  payable: [],
  losses: [{ startMs: 50, endMs: 51, name: 'empty redis' }],
};
const UNRECORDED: Recorded = { states: new Map(), holds: new Map() };

const TOLD = { startMs: 13, endMs: 14, orderNo: ORDER };
const STREAM = { ...TOLD, api: 'api-1', lastId: 1, versions: [2, 3] };

const violations: { [check: string]: [History, Recorded?] } = {
  'one key, one order': [
    buildHistory({
      acceptances: ['A', 'B'].map((name) => ({ ...accepted, orderNo: `storm-0-1-${name}` })),
    }),
    { ...recorded, states: new Map(['A', 'B'].map((name) => [`storm-0-1-${name}`, new Map(STATES)])) },
  ],
  'what was accepted is recorded': [buildHistory({ answers: [] }), { ...recorded, states: new Map() }],
  'what was accepted is found': [buildHistory({ denials: [{ startMs: 13, endMs: 14, orderNo: ORDER }] })],
  'versions never go back': [
    buildHistory({
      answers: [
        { ...answer, startMs: 20, endMs: 22, version: 2 },
        { ...answer, startMs: 23, endMs: 24 },
      ],
    }),
  ],
  'every answer was true': [buildHistory({ answers: [{ ...answer, startMs: 20, endMs: 22, version: 3 }] })],
  'an end is final': [
    buildHistory({ answers: [] }),
    {
      ...recorded,
      states: new Map([[ORDER, new Map(CANCELLED_TOO)]]),
    },
  ],
  'money moves as it may': [
    buildHistory({ answers: [] }),
    { ...recorded, states: new Map([[ORDER, new Map(APPLIED_WHILE_OPEN)]]) },
  ],
  'what has ended is not payable': [buildHistory({ payable: [{ startMs: 43, endMs: 44, orderNo: ORDER }] })],
  'only what a loss caught is lost': [
    buildHistory({ ...LOST, losses: [{ startMs: 8, endMs: 9, name: 'empty redis' }] }),
    UNRECORDED,
  ],
  'sold out was true': [
    // What was lowered earlier, or of another SKU, explains nothing.
    buildHistory({
      acceptances: [],
      lowered: [
        { sku: 'rug', startMs: 5, endMs: 7 },
        { sku: 'lamp', startMs: 5, endMs: 40 },
      ],
    }),
    { ...recorded, holds: new Map() },
  ],
  'what was answered as stored is durable': [buildHistory({ stored: [{ ...TOLD, version: 0 }] })],
  'what was given up is not paid': [buildHistory({ timedOut: [TOLD] })],
  'a stream of events goes forward': [buildHistory({ streams: [{ ...STREAM, versions: [2, 3, 3] }] })],
};

test('a true history has no violations', () => {
  expect(checkHistory(buildHistory(), recorded)).toEqual([]);
});

test.each([
  ['a paid order stays paid when its money is disputed and goes back', CHARGED_BACK],
  ['a paid order stays paid when parts of its money go back', REFUNDED_IN_PARTS],
] as const)('%s', (_, states) => {
  const stores = { ...recorded, states: new Map([[ORDER, new Map(states)]]) };
  expect(checkHistory(buildHistory({ answers: [] }), stores)).toEqual([]);
});

test('an order is not paid without money', () => {
  const stores = { ...recorded, states: new Map([[ORDER, new Map(PAID_WITHOUT_MONEY)]]) };
  expect(checkHistory(buildHistory({ answers: [] }), stores)).toMatchObject([
    { check: 'money moves as it may', detail: 'its money was none, and then none (paid)' },
  ]);
});

test.each<readonly [string, States]>([
  ['paid twice', [...STATES, [4, { status: 'paid', payment: 'applied' }]]],
  [
    'cancelled twice',
    [
      ...STATES.slice(0, 1),
      ...[2, 3].map((version): States[number] => [version, { status: 'cancelled', payment: 'none' }]),
    ],
  ],
])('an order that was %s has ended twice', (_, states) => {
  expect(endsOf(new Map(states))).toHaveLength(2);
});

test('answers that overlap may come in any order', () => {
  const answers = [
    { ...answer, startMs: 20, endMs: 30, version: 2 },
    { ...answer, startMs: 21, endMs: 29 },
  ];
  expect(checkHistory(buildHistory({ answers }), recorded)).toEqual([]);
});

test('an order that a loss caught before it was stored may end as lost, and its key may be used again', () => {
  const again = { ...accepted, startMs: 63, endMs: 64, orderNo: 'storm-0-2-B' };
  const history = buildHistory({ ...LOST, acceptances: [accepted, again] });
  const stores = { ...UNRECORDED, states: new Map([['storm-0-2-B', new Map(STATES)]]) };
  expect(checkHistory(history, stores)).toEqual([]);
});

test('what was stored is not lost to a loss of Redis, while a wish to cancel may be', () => {
  const lost = buildHistory({ ...LOST, stored: [{ ...TOLD, version: 1 }] });
  expect(checkHistory(lost, UNRECORDED)).toMatchObject([
    { subject: ORDER, detail: 'was answered 201, and lost' },
  ]);
  const losses = [{ startMs: 15, endMs: 16, name: 'flush redis' }];
  expect(checkHistory(buildHistory({ timedOut: [TOLD], losses }), recorded)).toEqual([]);
});

test('a stream begins with what its reader has not seen, and without a last event anywhere', () => {
  const streams = [STREAM, { ...STREAM, lastId: undefined, versions: [1, 3] }];
  expect(checkHistory(buildHistory({ streams }), recorded)).toEqual([]);
  const seen = [{ ...STREAM, versions: [1, 2] }];
  expect(checkHistory(buildHistory({ streams: seen }), recorded)).toHaveLength(1);
});

test('a stream may tell again that an order without a record is lost', () => {
  const streams = [{ ...STREAM, lastId: 1, versions: [1] }];
  const found = checkHistory(buildHistory({ ...LOST, streams }), UNRECORDED);
  expect(found.filter(({ check }) => check === 'a stream of events goes forward')).toEqual([]);
  expect(checkHistory(buildHistory({ streams }), recorded)).toMatchObject([
    { check: 'a stream of events goes forward' },
  ]);
});

test('a refusal while Redis lost its holds is not judged', () => {
  const losses = [{ startMs: 31, endMs: 33, name: 'flush redis' }];
  const history = buildHistory({ acceptances: [], losses });
  expect(checkHistory(history, { ...recorded, holds: new Map() })).toEqual([]);
});

test('an order that was payable may not end as lost', () => {
  const history = buildHistory({ ...LOST, payable: [{ startMs: 30, endMs: 31, orderNo: ORDER }] });
  expect(checkHistory(history, UNRECORDED)).toMatchObject([
    { subject: ORDER, detail: expect.stringContaining('was stored') },
  ]);
});

test('without its version, an order may look older at another API only where Redis was struck', () => {
  const answers = [
    { ...answer, startMs: 20, endMs: 22, version: 2 },
    { ...answer, startMs: 23, endMs: 24, isNamed: false, api: 'api-2' },
  ];
  const redisStruck = [{ startMs: 15, endMs: 18 }];
  expect(checkHistory(buildHistory({ answers, redisStruck }), recorded)).toEqual([]);
  expect(checkHistory(buildHistory({ answers }), recorded)).toHaveLength(1);
  const atTheSame = answers.map((one) => ({ ...one, api: 'api-1' }));
  expect(checkHistory(buildHistory({ answers: atTheSame, redisStruck }), recorded)).toHaveLength(1);
});

test('every check has a violation that it finds', () => {
  expect(Object.keys(violations).toSorted()).toEqual(CHECK_NAMES.toSorted());
});

test.each(Object.entries(violations))('a violation is found: %s', (check, [history, stores = recorded]) => {
  expect(checkHistory(history, stores).map((violation) => violation.check)).toEqual([check]);
});

test('sold out may be true when the shop lowered the stock since it was looked at', () => {
  const lowered = [{ sku: 'rug', startMs: 15, endMs: 20 }];
  const history = buildHistory({ acceptances: [], answers: [], denials: [], payable: [], lowered });
  expect(checkHistory(history, { ...recorded, holds: new Map() })).toEqual([]);
});
