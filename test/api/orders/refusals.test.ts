/** What each outcome that refuses a purchase is answered with. `test/lua` shows that it comes about. */

import { expect, test } from 'vitest';
import { toRefusal } from '../../../src/api/calls/purchase-refusals.ts';
import { answerTo } from '../../../src/api/http/problem.ts';
import type { OpenOrderReply } from '../../../src/api/http/replies.ts';
import { parseProblem } from '../../support/api-contract.ts';
import { silent } from '../../support/stores.ts';

type Refusal = Parameters<typeof toRefusal>[0];

const OPENS_AT_MS = Date.UTC(2026, 10, 27, 8);
const open: OpenOrderReply[] = [
  {
    orderNo: 's-0-1-01JD0000000000000000000000',
    status: 'awaiting_payment',
    payment: 'none',
    closing: false,
    items: [{ sku: 'lamp', quantity: 1, unitPrice: 4_900 }],
    total: 4_900,
    currency: 'EUR',
    deadline: '2026-11-27T08:30:00.000Z',
  },
];

function answer(refusal: Refusal) {
  const sent = answerTo(toRefusal(refusal, open), { path: '/v1/orders', requestId: 'r', log: silent });
  const headers = new Headers(sent.headers);
  const problem = parseProblem({ status: sent.status, headers, body: JSON.parse(sent.body) });
  return { problem, status: sent.status, retryAfter: headers.get('retry-after') };
}

/** Each outcome, its answer, what the problem says beside, and the seconds after which to try again. */
const REFUSALS: [Refusal, answer: string, extra?: object, retryAfter?: string][] = [
  [
    { kind: 'sold-out', sku: 'mug', available: 5, held: 2, openOrders: ['x'] },
    '409 sold_out',
    { sku: 'mug', available: 5, held: 2, openOrders: open },
  ],
  [
    { kind: 'limit-reached', sku: 'mug', limit: 2, bought: 2, openOrders: ['x'] },
    '409 limit_reached',
    { sku: 'mug', limit: 2, bought: 2, openOrders: open },
  ],
  [
    { kind: 'sale-limit-reached', limit: 3, bought: 2, openOrders: ['x'] },
    '409 sale_limit_reached',
    { limit: 3, bought: 2, openOrders: open },
  ],
  [{ kind: 'too-many-unpaid', limit: 2, unpaid: 2 }, '409 too_many_unpaid', { limit: 2, unpaid: 2 }],
  [{ kind: 'unknown-sku', sku: 'sofa' }, '400 unknown_sku', { sku: 'sofa' }],
  [{ kind: 'called-off', sku: 'mug' }, '409 called_off', { sku: 'mug' }],
  [
    { kind: 'not-open-yet', opensAtMs: OPENS_AT_MS },
    '403 sale_not_open_yet',
    { opensAt: '2026-11-27T08:00:00.000Z' },
  ],
  [{ kind: 'closed', closesAtMs: OPENS_AT_MS }, '403 sale_closed'],
  [{ kind: 'paused' }, '403 sale_paused', {}, '5'],
  [{ kind: 'backlog-full', waiting: 33, bound: 33 }, '503 backlog_full', {}, '5'],
  [{ kind: 'memory-full', used: 9, bound: 9 }, '503 backlog_full', {}, '5'],
  [{ kind: 'store-full' }, '503 stock_unavailable', {}, '5'],
  [{ kind: 'key-reused', orderNo: 'x' }, '422 idempotency_key_reused'],
  [{ kind: 'ticket-required' }, '403 ticket_required'],
  [{ kind: 'ticket-expired' }, '403 ticket_invalid', { reason: 'expired' }],
  [{ kind: 'ticket-invalid', fault: 'other_user' }, '403 ticket_invalid', { reason: 'other_user' }],
  [{ kind: 'total-too-low', total: -1 }, '403 ticket_invalid', { reason: 'nothing_to_pay' }],
  [{ kind: 'ticket-used', orderNo: 'x' }, '409 ticket_used', { orderNo: 'x' }],
  [
    { kind: 'total-changed', total: 1_500, currency: 'EUR' },
    '409 total_changed',
    { total: 1_500, currency: 'EUR' },
  ],
  [{ kind: 'too-many', name: 'user', retryAfterSeconds: 7 }, '429 too_many_purchases', {}, '7'],
];

test.each(REFUSALS)('a purchase refused as %o answers %s', (refusal, expected, extra = {}, retryAfter) => {
  const { problem, status, ...rest } = answer(refusal);

  expect(`${status} ${problem.code}`).toBe(expected);
  expect(problem).toMatchObject(extra);
  expect(rest.retryAfter).toBe(retryAfter ?? null);
});

test.each([
  [0, 2, 'at most 2 more'],
  [1, 2, 'at most 1 more'],
  [2, 2, 'no more'],
  [3, 2, 'no more'],
])('a shopper who has %i of %i is told that there may be %s', (bought, limit, more) => {
  const having = { limit, bought, openOrders: [] };
  const end = `you have ${bought}, so you may order ${more}.`;
  expect(answer({ kind: 'limit-reached', sku: 'mug', ...having }).problem.detail).toContain(end);
  expect(answer({ kind: 'sale-limit-reached', ...having }).problem.detail).toContain(`in this sale; ${end}`);
});
