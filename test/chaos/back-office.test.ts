/** The back office of a trial: once it is back it is told everything. What is wrong with that is found. */

import { beforeAll, expect, test } from 'vitest';
import { createBackOffice } from '../../chaos/back-office.ts';
import { checkNotices, checkTold, type Told } from '../../chaos/feed-checks.ts';
import { USUAL_RULES } from '../../src/api/http/auth.ts';
import { orderStateSchema } from '../../src/orders/content.ts';
import type { OrderState } from '../../src/orders/order.ts';
import { demoSecrets } from '../../stack/app.ts';
import { openApi, type TestApi } from '../api/open-api.ts';
import { dispatchEvents } from '../support/events.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { select } from '../support/rows.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openApi();
});

const recorded = orderStateSchema.pick({ status: true, payment: true });
type States = Map<string, Map<number, Pick<OrderState, 'status' | 'payment'>>>;

async function readStates(): Promise<States> {
  const rows = await select(api.stores.pool, 'SELECT order_no FROM orders ORDER BY order_no');
  const states: States = new Map();
  for (const { order_no: orderNo } of rows) {
    const life = await select(
      api.stores.pool,
      'SELECT version, status, payment FROM order_events WHERE order_no = ? ORDER BY version',
      [orderNo],
    );
    states.set(String(orderNo), new Map(life.map((row) => [Number(row['version']), recorded.parse(row)])));
  }
  return states;
}

test('a back office that was away is told all that happened meanwhile, in order, and none of it is missing', async () => {
  const app = await api.withParts({ tokens: { ...USUAL_RULES, secret: demoSecrets.jwt, keys: undefined } });
  const { saleId } = await api.stores.openSale(buildSale());
  const backOffice = await createBackOffice([app.url], 'fulfilment');
  const sell = async () => {
    const order = buildOrder({ saleId });
    await api.stores.orders.storeOrder(order, 'due');
    await api.stores.orders.cancel(order.orderNo, 'payment_timeout', { force: true });
    await dispatchEvents(api.stores);
  };
  await sell();
  await backOffice.readToEnd();
  expect(backOffice.told).toHaveLength(3);
  await sell();
  await sell();
  await backOffice.readToEnd();

  expect(backOffice.told).toHaveLength(9);
  expect(checkTold(backOffice.told, { states: await readStates() })).toEqual([]);
});

const LIFE = [
  ['awaiting_payment', 'none'],
  ['awaiting_payment', 'none'],
  ['paid', 'applied'],
] as const;
const toldOf = (i: 0 | 1 | 2): Told => ({
  orderNo: 'o',
  version: i + 1,
  status: LIFE[i][0],
  payment: LIFE[i][1],
});
const told: Told[] = [toldOf(0), toldOf(1), toldOf(2)];
const states: States = new Map([['o', new Map(told.map(({ version, ...state }) => [version, state]))]]);
const [first, second, last] = [toldOf(0), toldOf(1), toldOf(2)];

test.each<[string, Told[], string[]]>([
  ['all of it', told, []],
  ['all of it, and some of it again', [first, second, first, second, last], []],
  ['nothing', [], ['every change is told', 'every change is told', 'every end is told']],
  ['all but the end', [first, second], ['every end is told']],
  ['a change before the one that it follows', [first, last, second], ['events keep their order']],
  ['an end without what led to it', [first, last], ['events keep their order', 'every change is told']],
  ['another end', [first, second, { ...last, status: 'cancelled' }], ['what is told is true']],
  ['an order that never was', [...told, { ...first, orderNo: 'p' }], ['what is told is true']],
])('of a back office that was told %s, the checks find what they should', (_, heard, checks) => {
  expect(checkTold(heard, { states }).map(({ check }) => check)).toEqual(checks);
});

const NOTICE = { id: '1', orderNo: 'o', version: 1, deadline: '2026-11-21T10:30:00.000Z' };

test.each([
  ['once', [NOTICE], []],
  ['in two answers', [NOTICE, NOTICE], []],
  ['of two deadlines', [NOTICE, { ...NOTICE, id: '2', deadline: '2026-11-21T10:31:00.000Z' }], []],
  ['twice of one deadline', [NOTICE, { ...NOTICE, id: '2' }], ['a deadline is announced once']],
  ['of an order that is paid', [{ ...NOTICE, version: 3 }], ['a notice is of an open order']],
  ['of an order that never was', [{ ...NOTICE, orderNo: 'p' }], ['a notice is of an open order']],
])(
  'of a shop that was told %s that a deadline is near, the checks find what they should',
  (_, heard, checks) => {
    expect(checkNotices(heard, { states }).map(({ check }) => check)).toEqual(checks);
  },
);
