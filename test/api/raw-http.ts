/**
 * HTTP over a bare socket, for requests that no client would send. Every reply is held to the API's contract
 * before a test sees it.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { checkReply, type Reply } from '../support/api-contract.ts';

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
  let sent = '';
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
  function checked(replies: Reply[]): Reply[] {
    const requests = requestLines(sent);
    for (const [index, reply] of replies.entries()) {
      const { method, path } = requests[index] ?? UNREADABLE;
      checkReply(method, URL.canParse(path, url) ? new URL(path, url).href : url, reply);
    }
    return replies;
  }
  return {
    write(text) {
      sent += typeof text === 'string' ? text : Buffer.from(text).toString('latin1');
      socket.write(text);
    },
    stopReading: () => void socket.pause(),
    async replies(count) {
      while (parseReplies(received).length < count)
        await Promise.race([once(socket, 'data'), refuseEnd(closed)]);
      return checked(parseReplies(received).slice(0, count));
    },
    async untilClosed() {
      await closed;
      return checked(parseReplies(received));
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

/** No route has this method, so the only answer that is promised is a problem document. */
const UNREADABLE = { method: '', path: '/' };

/**
 * In the order of the answers; one may follow a body on its line. A line that is no HTTP is left out, for the
 * server closes the connection after it.
 */
function requestLines(sent: string): { method: string; path: string }[] {
  const lines = sent.matchAll(/([A-Z]+) (\S+) HTTP\/1\.1\r\n/g);
  return Array.from(lines, ([, method = '', path = '']) => ({ method, path }));
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
