/** Payment notices: committed before they are acknowledged, and refused when forged or malformed. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { buildSale } from '../../support/factories.ts';
import { pressPay, refusalOf, send, sessionOf, type Reply, type Shopper } from '../../support/shopper.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, openMysqlAway, type TestApi } from '../open-api.ts';
import { openTestLog } from '../test-log.ts';
import { paidNotice, sendNotice, type Signing } from './signed-notice.ts';

let api: TestApi;
let saleId: string;
let shopper: Shopper;

beforeAll(async () => {
  api = await openApi();
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100, limitPerUser: null }];
  ({ saleId } = await api.stores.openSale(buildSale({ skus })));
  shopper = await api.shopper();
});

const call = (body: string, { url = api.url, ...signing }: Signing & { url?: string } = {}) =>
  sendNotice(url, body, signing);

async function buyStored(): Promise<string> {
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);
  return orderNo;
}

async function paymentStatuses(orderNo: string): Promise<unknown> {
  const [rows] = await api.stores.pool.query('SELECT status FROM payments WHERE order_no = ?', [orderNo]);
  return rows;
}

const codeOf = (reply: Reply) => (reply.status === 204 ? '204' : refusalOf(reply));

test('a notice is answered 204 once it is committed, and its order is paid by then', async () => {
  const orderNo = await buyStored();

  expect(codeOf(await call(paidNotice(orderNo)))).toBe('204');

  const paid = { status: 'paid', payment: 'applied', version: 2 };
  expect((await api.stores.orders.read(orderNo))?.state).toMatchObject(paid);
  expect(await paymentStatuses(orderNo)).toEqual([{ status: 'applied' }]);
  expect(await shopper.awaitStatus(orderNo, 'paid')).toMatchObject(paid);
  expect(refusalOf(await shopper.pay(orderNo))).toBe('409 already_paid');
  expect(refusalOf(await shopper.cancel(orderNo))).toBe('409 already_paid');
});

test('the raw bytes are kept as they came', async () => {
  const orderNo = await buyStored();
  const body = ` ${paidNotice(orderNo).replace('{', '{\n  ')} `;

  expect(codeOf(await call(body))).toBe('204');

  const [rows] = await api.stores.pool.query(
    'SELECT CONVERT(raw_body USING utf8mb4) AS body, kind FROM payment_events WHERE order_no = ?',
    [orderNo],
  );
  expect(rows).toEqual([{ body, kind: 'payment_succeeded' }]);
});

test.each([
  ['of the wrong amount', buyStored, 1, 'parked'],
  ['for an order that is not stored', () => shopper.buy(saleId), 4_900, 'received'],
] as const)('money %s is taken too', async (_, buy, amount, status) => {
  const orderNo = await buy();

  expect(codeOf(await call(paidNotice(orderNo, { amount })))).toBe('204');

  expect(await paymentStatuses(orderNo)).toEqual([{ status }]);
});

test('a failed payment, and an event that moves no money, are taken', async () => {
  const reference = await buyStored();
  const timestamp = new Date().toISOString();
  const data = { payment_id: null, session_id: null, reference, amount: 4_900, currency: 'EUR' };

  expect(codeOf(await call(JSON.stringify({ type: 'payment.failed', timestamp, data })))).toBe('204');
  expect(codeOf(await call(JSON.stringify({ type: 'customer.created', timestamp })))).toBe('204');
});

test.each<[string, Signing]>([
  ['signed with another secret', { secret: 'whsec_YW5vdGhlci1zZWNyZXQtZm9yLXRlc3RzLTAyMDI=' }],
  ['changed after it was signed', { tampered: paidNotice('s-0-1-01JD0000000000000000000000') }],
  ['from an hour ago', { sentAt: new Date(Date.now() - 60 * 60 * 1000) }],
])('a notice %s is refused with 401, and nothing is stored', async (_, notice) => {
  const orderNo = await buyStored();

  expect(codeOf(await call(paidNotice(orderNo), notice))).toBe('401 invalid_signature');

  expect(await api.countRows('payment_events', orderNo)).toBe(0);
  expect(await paymentStatuses(orderNo)).toEqual([]);
});

test.each(['{"type":', '[', '7', '', paidNotice('x')])(
  'a notice is verified before it is read: of %j without a signature nothing is said but that',
  async (body) => {
    const reply = await send(`${api.url}/v1/webhooks/payments`, 'POST', { body });

    expect(codeOf(reply)).toBe('401 invalid_signature');
  },
);

test('forged notices are one line in the log, with the reason and without body or stack', async () => {
  const { log, lines } = openTestLog();
  const app = await api.withParts({ log });
  const secret = 'whsec_YW5vdGhlci1zZWNyZXQtZm9yLXRlc3RzLTAyMDI=';
  const body = paidNotice('forged'.repeat(300));

  await call(body, { url: app.url, secret });
  await call(body, { url: app.url, secret });

  expect(lines()).toEqual([
    expect.objectContaining({
      level: 40,
      msg: 'payment notices were refused: forged or stale',
      reason: expect.stringContaining('No matching signature'),
      refused: 1,
    }),
  ]);
  expect(JSON.stringify(lines()).length).toBeLessThan(400);
});

test('an authentic notice of an unknown shape is in the log with the beginning of its body', async () => {
  const { log, lines } = openTestLog();
  const app = await api.withParts({ log });

  await call(JSON.stringify({ type: 'payment.succeeded', pad: 'x'.repeat(5_000) }), { url: app.url });

  const [line] = z.array(z.object({ msg: z.string(), rawBody: z.string() })).parse(lines());
  expect(line).toMatchObject({ msg: 'payment notice malformed' });
  expect(line?.rawBody).toMatch(/^\{"type":"payment.succeeded"/);
  expect(line?.rawBody).toHaveLength(1_000);
});

test('an authentic notice of an unknown shape is refused with 400', async () => {
  expect(codeOf(await call('{"kind":"?"}'))).toBe('400 malformed_notice');
  expect(codeOf(await call('{"type":"payment.succeeded","data":{}}'))).toBe('400 malformed_notice');
  expect(codeOf(await call('{"type":'))).toBe('400 malformed_notice');
});

test('a notice larger than any provider sends is refused with 413', async () => {
  expect(codeOf(await call(JSON.stringify({ type: 'x', pad: 'x'.repeat(300_000) })))).toBe(
    '413 body_too_large',
  );
});

test('while MySQL is away a notice is not acknowledged, so that it comes again', async () => {
  const { pool, ...parts } = await openMysqlAway();
  onTestFinished(() => pool.end());
  const app = await api.withParts({ pool, ...parts });

  const reply = await call(paidNotice(await shopper.buy(saleId)), { url: app.url });

  expect(codeOf(reply)).toBe('503 inbox_unavailable');
  expect(reply.headers.get('retry-after')).toBe('1');
});

test('pressing pay at the provider brings the notice', async () => {
  const orderNo = await buyStored();

  await pressPay(sessionOf(await shopper.pay(orderNo)).url);

  await waitFor('the notice', async () => (await api.countRows('payment_events', orderNo)) === 1);
  expect(await paymentStatuses(orderNo)).toEqual([{ status: 'applied' }]);
});
