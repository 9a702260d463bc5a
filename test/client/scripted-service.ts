/** A service that answers as a test says, for what the real one does not do at will. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { onTestFinished } from 'vitest';

export interface Seen {
  call: string;
  headers: IncomingMessage['headers'];
  body: string;
  atMs: number;
}
export type Answer = (response: ServerResponse, seen: Seen) => void;

/** @param answers to the calls in order; the last one also answers those after it */
export async function scriptService(...answers: Answer[]): Promise<{ url: string; seen: Seen[] }> {
  const seen: Seen[] = [];
  async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await read(request);
    const { method, url, headers } = request;
    const one = { call: `${method} ${url}`, headers, body, atMs: Date.now() };
    seen.push(one);
    const answer = answers[Math.min(seen.length, answers.length) - 1];
    assert(answer, 'a test has an answer');
    answer(response, one);
  }
  const server = createServer((request, response) => void take(request, response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  const bound = server.address();
  assert(bound !== null && typeof bound === 'object');
  return { url: `http://127.0.0.1:${bound.port}`, seen };
}

async function read(request: IncomingMessage): Promise<string> {
  request.setEncoding('utf8');
  let body = '';
  for await (const chunk of request) body += String(chunk);
  return body;
}

/** @param headers `Content-Type` is that of problems unless given */
export const reply =
  (status: number, body?: object, headers: Record<string, string> = {}): Answer =>
  (response) => {
    const type = status < 400 ? 'application/json' : 'application/problem+json';
    response.writeHead(status, { 'Content-Type': type, ...headers });
    response.end(body === undefined ? undefined : JSON.stringify(body));
  };

/** The connection breaks before there is an answer. */
export const hangUp: Answer = (response) => void response.destroy();

export function buildOrder(change: object = {}) {
  return { orderNo: 'demo-0-1-A', status: 'queued', version: 0, pollAfterMs: 1, ...change };
}
