/** A shopper's HTTP client. Every reply is held to the API's contract before a test sees it. */

import assert from 'node:assert/strict';
import { ulid } from 'ulidx';
import { z } from 'zod';
import { sourcedOrderReply, type SourcedOrderReply } from '../../src/api/calls/find-order.ts';
import { sessionReply, type SessionReply } from '../../src/api/calls/orders.ts';
import { signToken } from '../../src/api/http/auth.ts';
import { orderReply, type OrderReply } from '../../src/api/http/replies.ts';
import type { OrderStatus } from '../../src/orders/order.ts';
import { checkReply, parseProblem, type Reply } from './api-contract.ts';
import { waitFor } from './wait.ts';

export const JWT_SECRET = 'a-secret-of-the-tests-with-enough-characters';

export type { Reply };

export interface Call {
  headers?: Record<string, string>;
  /** An object is sent as JSON, a string as it is. */
  body?: object | string;
}

export type OrderView = OrderReply & Partial<Pick<SourcedOrderReply, 'source'>>;
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
  const reply = {
    status: response.status,
    headers: response.headers,
    body: type.includes('json') ? (JSON.parse(text) as unknown) : text,
  };
  checkReply(method, url, reply);
  return reply;
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

    /** Again with the same key while the API tells every client to come back later. */
    placeUntilAnswered(body: object, headers: Record<string, string> = {}): Promise<Reply> {
      const key = { 'idempotency-key': ulid(), ...headers };
      return waitFor('an answer', async () => {
        const reply = await shopper.placeOrder(body, key);
        return reply.status !== 503 && reply.status !== 429 && reply;
      });
    },

    /** Buys one of this SKU. @returns the orderNo, once it is accepted */
    async buy(saleId: string, sku = 'lamp', quantity = 1): Promise<string> {
      const reply = await shopper.placeOrder({ saleId, items: [{ sku, quantity }] });
      return acceptedOf(reply).orderNo;
    },

    getOrder: (orderNo: string, headers: Record<string, string> = {}): Promise<Reply> =>
      call('GET', `/v1/orders/${orderNo}`, { headers }),

    async readOrder(orderNo: string): Promise<OrderView> {
      return orderOf(await shopper.getOrder(orderNo));
    },

    /** Polls like a page does; meanwhile the status must never go back. */
    awaitStatus(orderNo: string, status: OrderStatus, timeoutMs?: number): Promise<OrderView> {
      let version = 0;
      const look = async () => {
        const order = await shopper.readOrder(orderNo);
        assert(order.version >= version, `version ${order.version} after ${version}`);
        version = order.version;
        return order.status === status && order;
      };
      return waitFor(`order ${orderNo} to be ${status}`, look, timeoutMs);
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

const anyOrder = z.union([orderReply, sourcedOrderReply]);

export const orderOf = ({ body }: Reply): OrderView => anyOrder.parse(body);
/** The order of a purchase that was accepted just now. */
export function acceptedOf(reply: Reply): OrderView {
  assert.equal(reply.status, 202, JSON.stringify(reply.body));
  return orderOf(reply);
}
export const sessionOf = ({ body }: Reply): SessionReply => sessionReply.parse(body);
export const problemOf = parseProblem;

/** Status and code, the two things that callers act upon. */
export function refusalOf(reply: Reply): string {
  return `${reply.status} ${problemOf(reply).code}`;
}
