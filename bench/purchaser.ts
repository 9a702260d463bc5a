/**
 * One keep-alive connection that buys, on a bare socket,
 * because an HTTP client costs more than the API's refusal.
 */

import { once } from 'node:events';
import { connect } from 'node:net';

/** What one connection buys: one unit, each time for the next of its shoppers. */
export interface PurchaseOptions {
  host: string;
  port: number;
  saleId: string;
  sku: string;
  tokens: readonly string[];
}

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

export async function openPurchaser(options: PurchaseOptions): Promise<Purchaser> {
  const { host, port, saleId, sku, tokens } = options;
  const body = JSON.stringify({ saleId, items: [{ sku, quantity: 1 }] });
  const heads = tokens.map((token) =>
    [
      'POST /v1/orders HTTP/1.1',
      `Host: ${host}:${port}`,
      `Authorization: Bearer ${token}`,
      'Content-Type: application/json',
      `Content-Length: ${body.length}`,
      'Idempotency-Key: ',
    ].join('\r\n'),
  );
  let bought = 0;
  let received = '';
  let waiting: ((answer: Answer) => void) | undefined;
  const finish = (answer: Answer): void => {
    const onAnswer = waiting;
    waiting = undefined;
    received = '';
    onAnswer?.(answer);
  };
  const fail = (name: string): void => finish({ name, hasRetryAfter: false, orderNo: undefined });

  const socket = connect({ host, port, noDelay: true });
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
      socket.write(`${heads[bought % heads.length]}${idempotencyKey}${HEAD_END}${body}`);
      bought += 1;
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
