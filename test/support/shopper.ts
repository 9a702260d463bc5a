/** A shopper's HTTP client for tests. Every reply is parsed strictly, so a field too much fails a test. */

import assert from 'node:assert/strict';
import { ulid } from 'ulidx';
import { z } from 'zod';
import { signToken } from '../../src/api/auth.ts';
import { orderStateSchema } from '../../src/domain/order-state-schema.ts';
import type { OrderStatus } from '../../src/domain/order.ts';
import { waitFor } from './wait.ts';

export const JWT_SECRET = 'a-secret-of-the-tests-with-enough-characters';

export interface Reply {
  status: number;
  headers: Headers;
  body: unknown;
}

export interface Call {
  headers?: Record<string, string>;
  /** An object is sent as JSON, a string as it is. */
  body?: object | string;
}

const time = z.iso.datetime();

const orderSchema = z.strictObject({
  orderNo: z.string(),
  saleId: z.string(),
  ...orderStateSchema.shape,
  closing: z.boolean(),
  items: z.array(z.strictObject({ sku: z.string(), quantity: z.int(), unitPrice: z.int() })),
  total: z.int(),
  currency: z.string(),
  reservedAt: time,
  deadline: time,
  pollAfterMs: z.int().nullable(),
  source: z.enum(['workflow', 'database', 'projection']).optional(),
});

const problemSchema = z.looseObject({
  type: z.literal('about:blank'),
  title: z.string().min(1),
  status: z.int(),
  code: z.string().regex(/^[a-z_]+$/),
  detail: z.string().min(1),
});

const sessionSchema = z.strictObject({ orderNo: z.string(), url: z.url(), expiresAt: time });

/** What must never reach a caller: names of parts, addresses, statements, stack traces. */
const INTERNAL = /redis|mysql|mariadb|temporal|econn|127\.0\.0\.1|select |insert |\.ts\b|zod|koa|stack/i;

export type OrderView = z.infer<typeof orderSchema>;
export type Shopper = Awaited<ReturnType<typeof openShopper>>;

export async function send(url: string, method: string, { headers = {}, body }: Call = {}): Promise<Reply> {
  const isJson = typeof body === 'object';
  const response = await fetch(url, {
    method,
    headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    redirect: 'manual',
    ...(body === undefined ? {} : { body: isJson ? JSON.stringify(body) : body }),
  });
  const text = await response.text();
  const type = response.headers.get('content-type') ?? '';
  return {
    status: response.status,
    headers: response.headers,
    body: type.includes('json') ? (JSON.parse(text) as unknown) : text,
  };
}

export async function openShopper(url: string, userId = `shopper-${ulid().toLowerCase()}`) {
  const authorization = `Bearer ${await signToken(JWT_SECRET, userId, '1h')}`;
  const call = (method: string, path: string, { headers = {}, body }: Call = {}) =>
    send(`${url}${path}`, method, {
      headers: { authorization, ...headers },
      ...(body === undefined ? {} : { body }),
    });

  const shopper = {
    userId,
    /** The header's value, for tests that build their requests themselves. */
    authorization,
    call,

    /** With a fresh key, unless `headers` carry one. */
    placeOrder: (body: object | string, headers: Record<string, string> = {}): Promise<Reply> =>
      call('POST', '/v1/orders', { body, headers: { 'idempotency-key': ulid(), ...headers } }),

    /** Buys one of this SKU. @returns the orderNo, once it is accepted */
    async buy(saleId: string, sku = 'lamp', quantity = 1): Promise<string> {
      const reply = await shopper.placeOrder({ saleId, items: [{ sku, quantity }] });
      assert.equal(reply.status, 202, JSON.stringify(reply.body));
      return acceptedOf(reply).orderNo;
    },

    getOrder: (orderNo: string, headers: Record<string, string> = {}): Promise<Reply> =>
      call('GET', `/v1/orders/${orderNo}`, { headers }),

    async readOrder(orderNo: string): Promise<OrderView> {
      return orderOf(await shopper.getOrder(orderNo));
    },

    /** Polls like a page does; meanwhile the status must never go back. */
    awaitStatus(orderNo: string, status: OrderStatus): Promise<OrderView> {
      let version = 0;
      return waitFor(`order ${orderNo} to be ${status}`, async () => {
        const order = await shopper.readOrder(orderNo);
        assert(order.version >= version, `version ${order.version} after ${version}`);
        version = order.version;
        return order.status === status && order;
      });
    },

    cancel: (orderNo: string): Promise<Reply> => call('POST', `/v1/orders/${orderNo}/cancel`),

    pay: (orderNo: string): Promise<Reply> => call('POST', `/v1/orders/${orderNo}/payment`),
  };
  return shopper;
}

/** The button on the provider's page. */
export function pressPay(pageUrl: string): Promise<Reply> {
  const page = new URL(pageUrl);
  const sessionId = page.pathname.split('/').at(-1);
  return send(new URL(`/v1/payment_sessions/${sessionId}/pay`, page).href, 'POST');
}

export const orderOf = ({ body }: Reply): OrderView => orderSchema.parse(body);
export const acceptedOf = orderOf;
export const sessionOf = ({ body }: Reply) => sessionSchema.parse(body);

/** The problem document, checked for its form and for internals that it must not reveal. */
export function problemOf({ status, headers, body }: Reply): z.infer<typeof problemSchema> {
  assert.match(headers.get('content-type') ?? '', /^application\/problem\+json/, JSON.stringify(body));
  const problem = problemSchema.parse(body);
  assert.equal(problem.status, status);
  assert.doesNotMatch(JSON.stringify(body), INTERNAL);
  return problem;
}

/** Status and code, the two things that callers act upon. */
export function refusalOf(reply: Reply): string {
  return `${reply.status} ${problemOf(reply).code}`;
}
