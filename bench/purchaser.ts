/**
 * One keep-alive connection that buys, on a bare socket,
 * because an HTTP client costs more than the API's refusal.
 */

import { once } from 'node:events';
import { connect } from 'node:net';
import type { Load } from './load.ts';

export interface Answer {
  /** `accepted`, a refusal's status and code, or how the connection failed. */
  name: string;
  hasRetryAfter: boolean;
  orderNo: string | undefined;
}

export interface Purchaser {
  /** The API closes idle connections. */
  isOpen(): boolean;
  /** One at a time. */
  buy(idempotencyKey: string, onAnswer: (answer: Answer) => void): void;
  close(): void;
}

const HEAD_END = '\r\n\r\n';

export async function openPurchaser(load: Load, user: number): Promise<Purchaser> {
  const body = JSON.stringify({ saleId: load.saleId, items: [{ sku: 'unit', quantity: 1 }] });
  const head = [
    'POST /v1/orders HTTP/1.1',
    `Host: ${load.host}:${load.port}`,
    `Authorization: Bearer ${load.tokens[user % load.tokens.length]}`,
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
    'Idempotency-Key: ',
  ].join('\r\n');
  let received = '';
  let waiting: ((answer: Answer) => void) | undefined;
  const finish = (answer: Answer): void => {
    const onAnswer = waiting;
    waiting = undefined;
    received = '';
    onAnswer?.(answer);
  };
  const fail = (name: string): void => finish({ name, hasRetryAfter: false, orderNo: undefined });

  const socket = connect({ host: load.host, port: load.port, noDelay: true });
  await once(socket, 'connect');
  socket
    .setEncoding('latin1')
    .on('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message))
    .on('close', () => fail('closed'))
    .on('data', (chunk: string) => {
      received += chunk;
      const answer = readAnswer(received);
      if (answer) finish(answer);
    });
  return {
    isOpen: () => socket.readyState === 'open',
    buy(idempotencyKey, onAnswer) {
      waiting = onAnswer;
      socket.write(`${head}${idempotencyKey}${HEAD_END}${body}`);
    },
    close: () => socket.destroy(),
  };
}

/** Undefined until it has wholly arrived. */
function readAnswer(text: string): Answer | undefined {
  const headEnd = text.indexOf(HEAD_END);
  if (headEnd < 0) return undefined;
  const head = text.slice(0, headEnd);
  const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
  if (text.length < headEnd + HEAD_END.length + length) return undefined;
  const body = text.slice(headEnd + HEAD_END.length);
  const status = head.slice('HTTP/1.1 '.length).slice(0, 3);
  return {
    name: status === '202' ? 'accepted' : `${status} ${/"code":"(\w+)"/.exec(body)?.[1] ?? 'without code'}`,
    hasRetryAfter: /retry-after: \d/i.test(head),
    orderNo: /"orderNo":"([\w-]+)"/.exec(body)?.[1],
  };
}
