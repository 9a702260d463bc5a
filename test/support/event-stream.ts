/** A reader of server-sent events, with the token in a header, as a page reads them with fetch. */

import assert from 'node:assert/strict';
import { fieldsOf, readBlocks } from '../../chaos/event-stream.ts';
import { orderReply, type OrderReply } from '../../src/api/http/replies.ts';

export interface EventStream {
  headers: Headers;
  /** The next order. @throws when the stream ends before */
  next: () => Promise<OrderReply>;
  /** All that came, once the stream has ended; fields alone, such as `retry`, are in `text`. */
  rest: () => Promise<{ orders: OrderReply[]; text: string }>;
  close: () => void;
}

/** @throws for an answer that is no stream */
export async function openEvents(
  url: string,
  orderNo: string,
  headers: Record<string, string>,
): Promise<EventStream> {
  const aborting = new AbortController();
  const reply = await fetch(`${url}/v1/orders/${orderNo}/events`, { headers, signal: aborting.signal });
  assert.equal(reply.status, 200, await (reply.status === 200 ? '' : reply.text()));
  assert.equal(reply.headers.get('content-type'), 'text/event-stream');
  const blocks = readBlocks(reply.body ?? assert.fail('a stream has a body'));
  let text = '';

  async function order(): Promise<OrderReply | undefined> {
    for (;;) {
      const { done, value } = await blocks.next();
      if (done) return undefined;
      text += `${value}\n\n`;
      const fields = fieldsOf(value);
      const data = fields.get('data');
      if (data === undefined) continue;
      assert.equal(fields.get('event'), 'order');
      const parsed = orderReply.parse(JSON.parse(data));
      assert.equal(fields.get('id'), String(parsed.version));
      return parsed;
    }
  }

  return {
    headers: reply.headers,
    async next() {
      const found = await order();
      assert(found, `the stream has ended: ${text}`);
      return found;
    },
    async rest() {
      const orders: OrderReply[] = [];
      for (let found = await order(); found; found = await order()) orders.push(found);
      return { orders, text };
    },
    close: () => aborting.abort(),
  };
}
