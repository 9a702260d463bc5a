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
  /** `accepted`, `polled`, a refusal's status and code, or how the connection failed. */
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
const NAMES: Record<string, string> = { 200: 'polled', 202: 'accepted' };

/** The text of a request, by its idempotency key. */
export type RequestOf = (idempotencyKey: string) => string;

export async function openPurchaser(
  { host, port }: { host: string; port: number },
  requestOf: RequestOf,
): Promise<Purchaser> {
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
      socket.write(requestOf(idempotencyKey));
    },
    close: () => socket.destroy(),
  };
}

export function purchasesOf({ host, port, saleId, sku, tokens }: PurchaseOptions): RequestOf {
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
  return (idempotencyKey) => {
    const head = heads[bought % heads.length];
    bought += 1;
    return `${head}${idempotencyKey}${HEAD_END}${body}`;
  };
}

/** What one connection asks for: the status of these orders in turn, each by its shopper. */
export interface PollOptions {
  host: string;
  port: number;
  polled: readonly { orderNo: string; token: string }[];
  /** Where in the list it begins. */
  first: number;
}

export function pollsOf({ host, port, polled, first }: PollOptions): RequestOf {
  let next = first;
  return () => {
    const { orderNo, token } = polled[next % polled.length] ?? { orderNo: '', token: '' };
    next += 1;
    return [
      `GET /v1/orders/${orderNo} HTTP/1.1`,
      `Host: ${host}:${port}`,
      `Authorization: Bearer ${token}${HEAD_END}`,
    ].join('\r\n');
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
  const code = /"code":"(\w+)"/.exec(body)?.[1] ?? 'without code';
  return {
    name: NAMES[status] ?? `${status} ${code}`,
    hasRetryAfter: /retry-after: \d/i.test(head),
    orderNo: /"orderNo":"([\w-]+)"/.exec(body)?.[1],
  };
}
