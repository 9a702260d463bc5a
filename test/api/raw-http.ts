/** HTTP over a bare socket, for requests that no client would send. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Reply } from '../support/shopper.ts';

export interface RawConnection {
  write(text: string | Uint8Array): void;
  /** Takes in nothing from now on. */
  stopReading(): void;
  /** The first `count` answers, once they have arrived. */
  replies(count: number): Promise<Reply[]>;
  /** All answers, once the server has closed the connection. */
  untilClosed(): Promise<Reply[]>;
  close(): void;
}

export async function openRaw(url: string): Promise<RawConnection> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  await once(socket, 'connect');
  let received = '';
  // What is still being sent when the server closes may come back as a reset; its answer has arrived before.
  socket.setEncoding('latin1').on('error', () => {});
  socket.on('data', (chunk: string) => {
    received += chunk;
  });
  // Not `once`, which would take such a reset for a failure.
  const closed = new Promise<void>((resolve) => {
    socket.once('close', () => resolve());
  });
  return {
    write: (text) => void socket.write(text),
    stopReading: () => void socket.pause(),
    async replies(count) {
      while (parseReplies(received).length < count)
        await Promise.race([once(socket, 'data'), refuseEnd(closed)]);
      return parseReplies(received).slice(0, count);
    },
    async untilClosed() {
      await closed;
      return parseReplies(received);
    },
    close: () => void socket.destroy(),
  };
}

/**
 * Sends it and returns the last reply. The request must make the server close the connection.
 */
export async function sendRaw(url: string, ...parts: (string | Uint8Array)[]): Promise<Reply> {
  const connection = await openRaw(url);
  for (const part of parts) connection.write(part);
  const last = (await connection.untilClosed()).at(-1);
  assert(last, 'the server answers before it closes');
  return last;
}

async function refuseEnd(closed: Promise<unknown>): Promise<never> {
  await closed;
  throw new Error('the server closed the connection before it had answered');
}

function parseReplies(text: string): Reply[] {
  const headEnd = text.indexOf('\r\n\r\n');
  if (headEnd < 0) return [];
  const [statusLine = '', ...lines] = text.slice(0, headEnd).split('\r\n');
  const headers = new Headers(
    lines.map((line): [string, string] => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon), line.slice(colon + 1).trim()];
    }),
  );
  const end = headEnd + 4 + Number(headers.get('content-length') ?? 0);
  if (text.length < end) return [];
  const body = text.slice(headEnd + 4, end);
  const status = Number(statusLine.split(' ')[1]);
  const isJson = headers.get('content-type')?.includes('json') === true;
  const reply = { status, headers, body: isJson ? (JSON.parse(body) as unknown) : body };
  return [reply, ...parseReplies(text.slice(end))];
}
