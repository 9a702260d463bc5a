/** What is wrong is found and said, and nothing is said while all is well. */

import { expect, test } from 'vitest';
import type { Endpoint } from '../../src/push/endpoints.sql.ts';
import { findSlow, findWrong } from '../../src/status/findings.ts';
import type { PartialStatus } from '../../src/status/status.ts';
import { partly } from '../support/partly.ts';

const nothing = { waiting: 0, oldestMs: null };
const worker = {
  workerId: 'a',
  host: 'h',
  pid: 7,
  build: '',
  upMs: 9,
  url: 'http://h',
  hanging: [],
  silentMs: 5,
};
const WELL: PartialStatus = {
  redisTakesWrites: true,
  mysqlTakesWrites: true,
  workers: [worker],
  outboxes: [{ saleId: 'summer', waiting: 3, oldestAtMs: 0, oldestMs: 900 }],
  slots: 3,
  memory: [{ node: 'redis:6379', usedBytes: 75, maxBytes: 100, isBounded: true }],
  backlog: {
    notBegun: { waiting: 90, oldestMs: 400_000 },
    payments: { waiting: 2, oldestMs: 800 },
    refunds: 3,
  },
  parked: [],
  drift: { lookedAtMs: Date.now(), entries: [] },
  events: { waiting: 3, consumers: [] },
  endpoints: [],
  api: { tokens: { accepted: { count: 500 }, expired_unseen: { count: 90 } }, clocks: [] },
};

test('a healthy rush has nothing wrong', () => {
  expect(findWrong(WELL, true)).toEqual([]);
});

const old = { waiting: 5, oldestMs: 200_000 };
test.each<[string, Partial<PartialStatus>, boolean, RegExp[]]>([
  ['Temporal away', {}, false, [/^Temporal does not answer/]],
  ['MySQL away', { mysqlTakesWrites: undefined, backlog: undefined }, true, [/^MySQL does not answer/]],
  ['Redis away', { redisTakesWrites: undefined, slots: undefined }, true, [/^Redis does not answer/]],
  [
    'stores that take no writes, before all else,',
    { redisTakesWrites: false, mysqlTakesWrites: false, workers: [] },
    true,
    [/^Redis takes no writes/, /^MySQL takes no writes/, /^No worker lives/],
  ],
  [
    'both stores away',
    { redisTakesWrites: undefined, mysqlTakesWrites: undefined, workers: undefined },
    true,
    [/^Redis/, /^MySQL/, /^It is not known which workers live/],
  ],
  ['no worker', { workers: [] }, true, [/^No worker lives/]],
  [
    'the only worker frozen',
    { workers: [{ ...worker, silentMs: 41_000 }] },
    true,
    [/^No worker lives/, /^Worker 7 on h has been silent for 41 s/],
  ],
  [
    'one of two frozen',
    { workers: [worker, { ...worker, pid: 8, silentMs: 41_000 }] },
    true,
    [/^Worker 8 on h has been silent/],
  ],
  ['a loop hangs', { workers: [{ ...worker, hanging: ['events'] }] }, true, [/stands still in events/]],
  [
    'an old outbox',
    { outboxes: [{ saleId: 's', waiting: 20, oldestAtMs: 0, oldestMs: 41_000 }] },
    true,
    [/^20 accepted orders wait to be stored, the oldest for 41 s/],
  ],
  [
    'stuck money',
    { backlog: { notBegun: nothing, payments: old, refunds: 0 } },
    true,
    [/^5 payments have not reached/],
  ],
  [
    'a Redis that fills up, beside one without room to compare with',
    {
      memory: [
        { node: 'a:1', usedBytes: 80, maxBytes: 100, isBounded: true },
        { node: 'b:2', usedBytes: 80, maxBytes: null, isBounded: false },
      ],
    },
    true,
    [/^Redis a:1 uses 80 % of its maxmemory/],
  ],
  [
    'a Redis without maxmemory that fills its machine',
    { memory: [{ node: 'a:1', usedBytes: 80, maxBytes: 100, isBounded: false }] },
    true,
    [/^Redis a:1 uses 80 % of its machine's memory/],
  ],
  [
    'a sale that is not compared, and drift',
    {
      drift: {
        lookedAtMs: Date.now() - 400_000,
        entries: [{ saleId: 'demo', sku: 'lamp', what: 'held', units: 2 }],
      },
    },
    true,
    [
      /^A sale has not been compared whole for 400 s/,
      /^Redis and MySQL counted 1 things differently, first held of lamp in demo/,
    ],
  ],
  [
    'endpoints that are down, gone, and switched off by an operator',
    {
      endpoints: [
        partly<Endpoint>({
          name: 'books',
          disabledFor: null,
          health: { isDown: true, waiting: 7, lastError: '503' },
        }),
        partly<Endpoint>({ name: 'mail', disabledFor: 'gone', health: { isDown: false } }),
        partly<Endpoint>({ name: 'old', disabledFor: 'operator', health: { isDown: true } }),
      ],
    },
    true,
    [/^The endpoint books is down: 7 deliveries wait \(503\)/, /^The endpoint mail answered 410/],
  ],
  [
    'parked work',
    { parked: [{ kind: 'order', waiting: 2, oldestMs: 5 }] },
    true,
    [/^Parked work waits for an operator: 2 order/],
  ],
])('%s is found', (_, part, isTemporalUp, expected) => {
  const wrong = findWrong({ ...WELL, ...part }, isTemporalUp);
  expect(wrong.map(({ what }) => what)).toEqual(expected.map((pattern) => expect.stringMatching(pattern)));
  for (const { remedy } of wrong) expect(remedy).toMatch(/\.$/);
});

test.each<[string, Parameters<typeof findSlow>, RegExp[]]>([
  [
    'answers in time',
    [
      { Redis: 40, MySQL: 900 },
      { text: 'a load of 18.0 on 2 processors', isBusy: true },
    ],
    [],
  ],
  [
    'one slow answer on an idle machine',
    [
      { Redis: 4_200, MySQL: 900 },
      { text: 'a load of 0.1 on 2 processors', isBusy: false },
    ],
    [/^Redis answered after 4 s: it, or this machine, is busy/],
  ],
  [
    'no answer on a busy machine',
    [
      { Redis: 40, MySQL: undefined },
      { text: 'a load of 18.0 on 2 processors', isBusy: true },
    ],
    [/^This machine is busy: a load of 18.0 on 2 processors\. What does not answer here in time/],
  ],
])('of %s the machine is told where it may be the cause', (_, [tookMs, load], expected) => {
  const found = findSlow(tookMs, load);
  expect(found.map(({ what }) => what)).toEqual(expected.map((pattern) => expect.stringMatching(pattern)));
});
