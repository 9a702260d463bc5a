/** A reader of server-sent events, with the token in a header, as a page reads them with fetch. */

import assert from 'node:assert/strict';
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
  const reader = (reply.body ?? assert.fail('a stream has a body'))
    .pipeThrough(new TextDecoderStream())
    .getReader();
  let text = '';
  let unread = '';

  /** The next block, which an empty line ends. */
  async function block(): Promise<string | undefined> {
    while (!unread.includes('\n\n')) {
      const { done, value } = await reader.read();
      if (done) return undefined;
      unread += value;
      text += value;
    }
    const end = unread.indexOf('\n\n');
    const found = unread.slice(0, end);
    unread = unread.slice(end + 2);
    return found;
  }

  async function order(): Promise<OrderReply | undefined> {
    for (;;) {
      const found = await block();
      if (found === undefined) return undefined;
      const fields = new Map(
        found.split('\n').map((line) => {
          const colon = line.indexOf(':');
          return [line.slice(0, colon), line.slice(colon + 1).trim()];
        }),
      );
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
