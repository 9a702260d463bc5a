/** Opening the payment page when the provider refuses it, hangs, or has refused too often. */

import { beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { MAX_OTHERS_IN_FLIGHT, MAX_PAYMENTS_IN_FLIGHT } from '../../../src/api/app.ts';
import type { PaymentProvider } from '../../../src/providers/provider.ts';
import { openScriptedStripe, type ScriptedStripe } from '../../providers/stripe/scripted-stripe.ts';
import { buildError, connect, MINUTE_MS } from '../../providers/stripe/stripe-world.ts';
import { buildSale } from '../../support/factories.ts';
import type { HttpApp } from '../../support/http-app.ts';
import { select } from '../../support/rows.ts';
import { problemOf, refusalOf, sessionOf, type Shopper } from '../../support/shopper.ts';
import { waitFor } from '../../support/wait.ts';
import { scrapeCounter } from '../metrics.ts';
import { openApi, type TestApi } from '../open-api.ts';

const OPEN = 'POST /v1/checkout/sessions';
const REFUSED = buildError(400, 'invalid_request_error', 'parameter_invalid_integer');
const OPENED = { status: 200, body: { id: 'cs_1', url: 'https://checkout.stripe.com/c/cs_1' } };

let api: TestApi;
let stripe: ScriptedStripe;
let saleId: string;

beforeAll(async () => {
  api = await openApi();
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null }];
  ({ saleId } = await api.stores.openSale(buildSale({ skus })));
});

beforeEach(async () => {
  stripe = await openScriptedStripe();
  onTestFinished(() => stripe.close());
});

/** The API over this provider, with a stored order to be paid there. */
async function openOver(
  provider: PaymentProvider,
): Promise<{ app: HttpApp; shopper: Shopper; orderNo: string }> {
  const app = await api.withParts({ provider });
  const shopper = await app.shopper();
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);
  return { app, shopper, orderNo };
}

async function statusesOf(orderNo: string): Promise<unknown[]> {
  const sql = 'SELECT status FROM payment_sessions WHERE order_no = ? ORDER BY created_at, session_id';
  return (await select(api.stores.pool, sql, [orderNo])).map(({ status }) => status);
}

const sessionRequests = () => stripe.seen.filter(({ route }) => route === OPEN);

test('a session that was begun before an outage and is refused after it is replaced by a new one', async () => {
  const { shopper, orderNo } = await openOver(connect(stripe.url));
  stripe.script(OPEN, 'hang-up', REFUSED, OPENED);
  expect(refusalOf(await shopper.pay(orderNo))).toBe('503 payment_unavailable');
  await api.stores.pool.query(
    'UPDATE payment_sessions SET created_at = created_at - INTERVAL 11 MINUTE WHERE order_no = ?',
    [orderNo],
  );

  const reply = await shopper.pay(orderNo);

  expect(sessionOf(reply).url).toBe(OPENED.body.url);
  expect(await statusesOf(orderNo)).toEqual(['refused', 'open']);
  const [, before, after] = sessionRequests();
  expect(after?.headers['idempotency-key']).not.toBe(before?.headers['idempotency-key']);
  expect(Number(after?.form['expires_at']) * 1_000).toBeGreaterThan(Date.now() + 30 * MINUTE_MS);
});

test.each([
  ['a fault of Stripe', buildError(500, 'api_error', 'oops')],
  ['too many calls', buildError(429, 'invalid_request_error', 'rate_limit')],
  ['a closed connection', 'hang-up' as const],
])('%s leaves the outcome open, so the same session is asked for again', async (_what, answer) => {
  const { shopper, orderNo } = await openOver(connect(stripe.url));
  stripe.script(OPEN, answer, OPENED);

  expect(refusalOf(await shopper.pay(orderNo))).toBe('503 payment_unavailable');
  expect((await shopper.pay(orderNo)).status).toBe(201);

  expect(await statusesOf(orderNo)).toEqual(['open']);
  expect(new Set(sessionRequests().map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
});

test('a provider that refuses every session is asked twice a call, and for a bounded number of sessions', async () => {
  const { shopper, orderNo } = await openOver(connect(stripe.url));
  stripe.script(OPEN, ...Array.from({ length: 40 }, () => REFUSED));

  for (let call = 0; call < 15; call++)
    expect(refusalOf(await shopper.pay(orderNo))).toBe('503 payment_unavailable');

  const statuses = await statusesOf(orderNo);
  expect(statuses).toEqual([...Array.from({ length: 10 }, () => 'refused'), 'opening']);
  expect(sessionRequests().length).toBeLessThanOrEqual(30);
});

test('an order of more than the provider takes is refused with the reason, and asks it for nothing', async () => {
  const skus = [{ sku: 'ship', name: 'Ship', unitPrice: 60_000_000, total: 10, limitPerUser: null }];
  const { saleId: harbour } = await api.stores.openSale(buildSale({ skus }));
  const { shopper } = await openOver(connect(stripe.url));
  const orderNo = await shopper.buy(harbour, 'ship', 2);
  await api.store(orderNo);

  const reply = await shopper.pay(orderNo);

  expect(refusalOf(reply)).toBe('409 not_payable');
  expect(problemOf(reply)).toMatchObject({ detail: expect.stringContaining('99999999'), order: { orderNo } });
  expect([await statusesOf(orderNo), sessionRequests()]).toEqual([[], []]);
});

test('a shopper is asked to come back when the provider takes calls again', async () => {
  const { shopper, orderNo } = await openOver(connect(stripe.url));
  stripe.script(OPEN, { ...buildError(429, 'invalid_request_error', 'rate_limit'), retryAfter: '7' }, OPENED);

  const reply = await shopper.pay(orderNo);

  expect(refusalOf(reply)).toBe('503 payment_unavailable');
  expect(reply.headers.get('retry-after')).toBe('7');
  expect((await shopper.pay(orderNo)).status).toBe(201);
  expect(await statusesOf(orderNo)).toEqual(['open']);
});

test('a provider that hangs keeps no shopper from reading or cancelling an order', async () => {
  let letGo = (): void => {};
  let waiting = 0;
  const gate = new Promise<void>((resolve) => (letGo = resolve));
  const { app, shopper, orderNo } = await openOver({
    ...api.provider,
    openSession: async (request) => {
      waiting += 1;
      await gate;
      return api.provider.openSession(request);
    },
  });
  onTestFinished(() => letGo());
  const other = await shopper.buy(saleId);
  let answered = 0;
  const paying = Array.from({ length: MAX_OTHERS_IN_FLIGHT }, async () => {
    const reply = await shopper.pay(orderNo);
    answered += 1;
    return reply;
  });
  await waitFor('the lane to be full, and the others to be refused', () => {
    return waiting === MAX_PAYMENTS_IN_FLIGHT && answered === MAX_OTHERS_IN_FLIGHT - MAX_PAYMENTS_IN_FLIGHT;
  });

  expect((await shopper.getOrder(other)).status).toBe(200);
  expect((await shopper.cancel(other)).status).toBe(202);

  letGo();
  const replies = await Promise.all(paying);
  expect(replies.filter(({ status }) => status === 201)).toHaveLength(MAX_PAYMENTS_IN_FLIGHT);
  const shed = replies.filter((reply) => reply.status !== 201 && refusalOf(reply) === '503 overloaded');
  expect(await scrapeCounter(app.url, 'holdfast_shed_total')).toMatchObject({ payments: shed.length });
});
