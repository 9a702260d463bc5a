/** How the client follows an order: by a stream, by long polls, by plain ones. */

import { expect, test } from 'vitest';
import { createClient } from '../../packages/client/src/index.ts';
import { readEvents } from '../../packages/client/src/stream.ts';
import { waitFor } from '../support/wait.ts';
import { buildOrder, hangUp, reply, scriptService, type Answer } from './scripted-service.ts';

/** Sends these events and ends. */
const stream =
  (...events: string[]): Answer =>
  (response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.end(events.map((event) => `${event}\n\n`).join(''));
  };
const eventOf = (version: number, status: string) =>
  `id: ${version}\nevent: order\ndata: ${JSON.stringify(buildOrder({ version, status }))}`;

async function versionsOf(orders: AsyncIterable<{ version: number }>): Promise<number[]> {
  const versions: number[] = [];
  for await (const { version } of orders) versions.push(version);
  return versions;
}

test('a stream that breaks goes on after the last version, and ends with the order', async () => {
  const { url, seen } = await scriptService(
    stream('retry: 1', eventOf(0, 'queued'), ': alive', eventOf(1, 'awaiting_payment')),
    hangUp,
    stream(eventOf(1, 'awaiting_payment'), eventOf(2, 'paid')),
  );
  expect(await versionsOf(createClient({ url }).watch('demo-0-1-A'))).toEqual([0, 1, 2]);
  expect(seen.map(({ headers }) => headers['last-event-id'])).toEqual([undefined, '1', '1']);
  expect(seen[0]).toMatchObject({
    call: 'GET /v1/orders/demo-0-1-A/events',
    headers: { accept: 'text/event-stream' },
  });
});

test('where there is no room for a stream, polls follow the order to its end', async () => {
  const { url, seen } = await scriptService(
    reply(429, { code: 'too_many_watchers' }, { 'Retry-After': '5' }),
    reply(200, buildOrder()),
    reply(503, { code: 'watchers_full' }, { 'Retry-After': '5' }),
    reply(304),
    reply(200, buildOrder({ version: 2, status: 'cancelled' })),
  );
  expect(await versionsOf(createClient({ url }).watch('demo-0-1-A'))).toEqual([0, 2]);
  expect(seen.map(({ call }) => call.replace(/.*demo-0-1-A/, ''))).toEqual([
    '/events',
    '',
    '?wait=25',
    '',
    '?wait=25',
  ]);
  expect(seen.map(({ headers }) => headers['if-none-match'])).toEqual([
    undefined,
    undefined,
    '"0"',
    '"0"',
    '"0"',
  ]);
});

test('polls name an order as its answer did, and tell of its end though the version is the same', async () => {
  const stored = { version: 1, status: 'awaiting_payment', closing: false };
  const { url, seen } = await scriptService(
    reply(429, { code: 'too_many_watchers' }),
    reply(200, buildOrder({ closing: false }), { ETag: '"0"' }),
    reply(200, buildOrder({ closing: true }), { ETag: '"0-shopper_request"' }),
    reply(200, buildOrder(stored), { ETag: '"1"' }),
    reply(200, buildOrder({ ...stored, status: 'failed' }), { ETag: '"1-lost_before_stored"' }),
  );
  expect(await versionsOf(createClient({ url }).watch('demo-0-1-A'))).toEqual([0, 0, 1, 1]);
  expect(seen.slice(2).map(({ headers }) => headers['if-none-match'])).toEqual([
    '"0"',
    '"0-shopper_request"',
    '"1"',
  ]);
});

test('a stream that is refused for good is not asked for again', async () => {
  const { url, seen } = await scriptService(reply(404, { code: 'order_not_found' }));
  await expect(versionsOf(createClient({ url }).watch('demo-0-1-A'))).rejects.toMatchObject({
    code: 'order_not_found',
  });
  expect(seen).toHaveLength(1);
});

test('a wait ends with the order that it waits for', async () => {
  const { url, seen } = await scriptService(
    reply(200, buildOrder()),
    reply(304),
    reply(200, buildOrder({ version: 1, status: 'awaiting_payment' })),
  );
  const order = await createClient({ url }).wait('demo-0-1-A', ({ status }) => status !== 'queued');
  expect(order.version).toBe(1);
  expect(seen).toHaveLength(3);
});

test('whoever stops to watch ends the connection', async () => {
  let closed = 0;
  const { url } = await scriptService((response) => {
    response.on('close', () => (closed += 1));
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.write(`${eventOf(0, 'queued')}\n\n`);
  });
  for await (const order of createClient({ url }).watch('demo-0-1-A')) {
    expect(order.version).toBe(0);
    break;
  }
  await waitFor('the connection to be closed', () => closed === 1);
});

test.each(['\n', '\r\n', '\r'])(
  'events are the same wherever their bytes are cut, with lines that end in %j',
  async (end) => {
    const lines = [
      'retry: 5',
      '',
      'id: 1',
      'event: order',
      'data: {"é":',
      'data:1}',
      '',
      ': only a comment',
      '',
      'data: cut',
    ];
    const bytes = new TextEncoder().encode(lines.join(end));
    for (let size = 1; size <= bytes.length; size += 1) {
      const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
        bytes.subarray(i * size, (i + 1) * size),
      );
      const found: unknown[] = [];
      for await (const event of readEvents(ReadableStream.from(chunks))) found.push(event);
      expect(found).toEqual([
        { type: 'message', data: '' },
        { type: 'order', data: '{"é":\n1}' },
        { type: 'message', data: '' },
      ]);
    }
  },
);
