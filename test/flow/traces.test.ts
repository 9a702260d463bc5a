/** An order's trace, from the purchase to the push of its last event, as a receiver of OTLP gets it. */

import assert from 'node:assert/strict';
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createSecret } from '../../src/push/deliverer.ts';
import { openTracing } from '../../src/tracing.ts';
import { runPush } from '../../src/workers/service.ts';
import { openTestLog } from '../api/test-log.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { openReceiver, type Receiver } from '../support/receiver.ts';
import { acceptedOf } from '../support/shopper.ts';
import { silent } from '../support/stores.ts';
import { drawTrace, openTraceReceiver, type ReceivedSpan } from '../support/trace-receiver.ts';
import { waitFor } from '../support/wait.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const CALLER = '00f067aa0ba902b7';
const CART = [{ sku: 'lamp', quantity: 1 }];

let traces: Awaited<ReturnType<typeof openTraceReceiver>>;
let checkout: Checkout;
let shop: Receiver;
const stopping = new AbortController();
let pushing: Promise<void>;

beforeAll(async () => {
  traces = await openTraceReceiver();
  checkout = await openCheckout({ stores: { OTEL_EXPORTER_OTLP_ENDPOINT: traces.url } });
  shop = await openReceiver();
  const endpoint = { url: shop.url, types: null, saleId: null, description: '' };
  await checkout.stores.endpoints.put('shop', endpoint, createSecret(), 'ada');
  pushing = runPush({ ...checkout.stores, sender: { allowPrivate: true }, log: silent }, stopping.signal);
});
afterAll(async () => {
  stopping.abort();
  await pushing;
  await checkout.close();
  await Promise.all([shop.close(), traces.close()]);
});

/** In the order in which they begin. */
const STEPS = [
  'POST /v1/orders',
  'reserve',
  'store',
  'start workflow',
  'open payment page',
  'payment notice',
  'markPaid',
  'push order.paid',
];

const named = (spans: readonly ReceivedSpan[], name: string) => spans.filter((span) => span.name === name);

/** The first of this name. */
function the(spans: readonly ReceivedSpan[], name: string): ReceivedSpan {
  const [span] = named(spans, name);
  assert(span, `a span ${name}`);
  return span;
}

test('an order is one trace: its purchase, store, workflow, payment, notice, steps and events', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  // A worker needs up to a second to notice a new sale, which is no part of an order's life.
  await checkout.buy(saleId);

  const placed = await shopper.placeOrder(
    { saleId, items: CART },
    { traceparent: `00-${TRACE}-${CALLER}-01`, 'x-request-id': 'of-the-storefront' },
  );
  const { orderNo } = acceptedOf(placed);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  // Else the payment might be what begins it.
  const { workflow } = checkout.client;
  const hasBegun = () => workflow.getHandle(orderNo).describe();
  await waitFor('its workflow', () => hasBegun().then(Boolean, () => false));
  await checkout.pay({ shopper, orderNo });
  await waitFor('the spans', () => STEPS.every((name) => named(traces.trace(TRACE), name).length > 0));

  const spans = traces.trace(TRACE);
  if (process.env['SHOW_FIGURES']) console.log(drawTrace(spans, traces.spans));
  const purchase = the(spans, 'POST /v1/orders');
  expect(purchase).toMatchObject({ parentSpanId: CALLER, service: 'holdfast' });
  expect(purchase.attributes).toMatchObject({
    'http.request.method': 'POST',
    'http.route': '/v1/orders',
    'http.response.status_code': 202,
    'holdfast.order_no': orderNo,
    'holdfast.request_id': 'of-the-storefront',
  });
  for (const span of spans.filter((one) => one !== purchase)) {
    expect(span.parentSpanId, span.name).toBe(purchase.spanId);
    if (span.name !== 'reserve') expect(span.attributes['holdfast.order_no'], span.name).toBe(orderNo);
  }
  // The steps follow each other: none has begun before the one that it needs. Each span takes the
  // millisecond of the wall clock for itself.
  const starts = STEPS.map((name) => the(spans, name).startTimeUnixNano);
  const early = STEPS.filter((_, i) => (starts[i] ?? 0n) < (starts[i - 1] ?? 0n) - 1_000_000n);
  expect(early).toEqual([]);

  const notice = the(spans, 'payment notice');
  const call = traces.spans.find(({ spanId }) => spanId === notice.links[0]?.spanId);
  expect(call?.name).toBe('POST /v1/webhooks/payments');
  expect(call?.traceId).not.toBe(TRACE);
  expect(call?.links).toContainEqual({ traceId: TRACE, spanId: purchase.spanId });

  const pushed = shop.received.find(({ event }) => event.type === 'order.paid');
  expect(pushed?.headers['traceparent']).toBe(`00-${TRACE}-${the(spans, 'push order.paid').spanId}-01`);
  expect(pushed?.body).not.toContain(TRACE);
});

test('a page of orders is one span with a link to each, and each has its own store span', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shoppers = await Promise.all(Array.from({ length: 4 }, () => checkout.shopper()));
  const orderNos = await Promise.all(shoppers.map((shopper) => shopper.buy(saleId)));

  const storesOf = () =>
    named(traces.spans, 'store').filter(({ attributes }) =>
      orderNos.includes(String(attributes['holdfast.order_no'])),
    );
  const pageOf = (span: ReceivedSpan) =>
    named(traces.spans, 'store page').find(({ spanId }) => spanId === span.links[0]?.spanId);
  await waitFor('the spans', () => storesOf().length === 4 && storesOf().every(pageOf));

  expect(new Set(storesOf().map(({ traceId }) => traceId)).size).toBe(4);
  for (const store of storesOf()) {
    const page = pageOf(store);
    expect(page?.links).toContainEqual({ traceId: store.traceId, spanId: store.parentSpanId });
    expect(page?.links).toHaveLength(Number(page?.attributes['holdfast.orders']));
    expect(page?.parentSpanId).toBeUndefined();
  }
});

test('an order whose caller is not sampled carries no trace, and a malformed traceparent begins a new one', async () => {
  const { stores } = checkout;
  const { saleId } = await stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const buy = async (traceparent: string) =>
    acceptedOf(await shopper.placeOrder({ saleId, items: CART }, { traceparent })).orderNo;

  const unsampled = await buy(`00-${'a'.repeat(32)}-${CALLER}-00`);
  const fresh = await buy(`00-${'0'.repeat(32)}-${CALLER}-01`);
  for (const orderNo of [unsampled, fresh]) await shopper.awaitStatus(orderNo, 'awaiting_payment');

  const carried = async (orderNo: string) => (await stores.orders.read(orderNo))?.order.traceparent;
  expect(await carried(unsampled)).toBeUndefined();
  expect(await carried(fresh)).toMatch(/^00-(?!0{32})[0-9a-f]{32}-[0-9a-f]{16}-01$/);
  expect(JSON.stringify(await shopper.readOrder(fresh))).not.toContain('traceparent');
});

test.each(['traceidratio', 'parentbased_traceidratio'] as const)(
  'with %s a caller cannot have its call sampled, and an order that is sampled keeps its spans',
  async (OTEL_TRACES_SAMPLER) => {
    const config = { OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG: 1e-6 };
    const tracing = await openTracing(
      { OTEL_EXPORTER_OTLP_ENDPOINT: traces.url, ...config },
      silent,
      async () => undefined,
    );
    assert(tracing);
    const request = new IncomingMessage(new Socket());
    // The ratio takes this id, however small it is.
    request.headers['traceparent'] = `00-${'1'.padStart(32, '0')}-${CALLER}-01`;

    tracing.serve(request, new ServerResponse(request), '/v1/orders', 'r');

    expect(tracing.traceparentOf(request)).toBeUndefined();
    const step = tracing.begin('step', { traceparent: `00-${TRACE}-${CALLER}-01` });
    expect(step?.traceparent).toMatch(new RegExp(`^00-${TRACE}-.*-01$`));
    await tracing.close();
  },
);

test('a receiver that is away is warned of once, and ends with the process', async () => {
  const { log, lines } = openTestLog();
  const gone = await openTraceReceiver();
  await gone.close();
  const tracing = await openTracing({ OTEL_EXPORTER_OTLP_ENDPOINT: gone.url }, log, async () => undefined);
  const traceparent = `00-${TRACE}-${CALLER}-01`;

  for (let i = 0; i < 5_000; i += 1) tracing?.begin('step', { orderNo: `${i}`, traceparent })?.end();
  await waitFor('a warning', () => lines().length > 0);
  await tracing?.close();

  expect(lines()).toContainEqual(expect.objectContaining({ level: 40, msg: 'spans were not exported' }));
});
