/** The event streams of shoppers, who each watch one order. */

import { Agent, request } from 'node:http';

export interface OrderStream {
  /** Resolves as soon as the stream says so. @returns when that was, by `performance.now()` */
  until(status: 'awaiting_payment' | 'paid'): Promise<number>;
  close(): void;
}

/** @param timeoutMs after so long without an event a stream fails */
export function createOrderStreams(apiUrl: string, timeoutMs: number) {
  const agent = new Agent({ keepAlive: true });

  /** Resolves once the stream has shown the order. @throws unless it is answered with 200 */
  function open(orderNo: string, token: string): Promise<OrderStream> {
    const headers = { authorization: `Bearer ${token}`, accept: 'text/event-stream' };
    const url = new URL(`/v1/orders/${orderNo}/events`, apiUrl);
    return new Promise((resolve, reject) => {
      let text = '';
      let failure: Error | undefined;
      const waiting = new Map<string, { resolve: (atMs: number) => void; reject: (error: Error) => void }>();
      const fail = (error: Error): void => {
        failure ??= error;
        reject(failure);
        for (const each of waiting.values()) each.reject(failure);
      };
      const until = (status: string): Promise<number> =>
        new Promise((told, failed) => {
          if (isTold(status)) told(performance.now());
          else if (failure) failed(failure);
          else waiting.set(status, { resolve: told, reject: failed });
        });
      const isTold = (status: string): boolean => text.includes(`"status":"${status}"`);
      const sent = request(url, { agent, headers }, (response) => {
        if (response.statusCode !== 200) {
          response.resume();
          fail(new Error(`${orderNo}: ${response.statusCode}`));
          return;
        }
        response
          .on('data', (chunk: Buffer) => {
            text += chunk.toString();
            if (text.includes('"status":"')) resolve({ until, close: () => sent.destroy() });
            for (const [status, { resolve: told }] of waiting) if (isTold(status)) told(performance.now());
          })
          .on('error', fail)
          .on('end', () => fail(new Error(`${orderNo}: the stream ended with ${text}`)));
      });
      sent
        .on('error', fail)
        .setTimeout(timeoutMs, () => sent.destroy(new Error(`${orderNo}: nothing came for ${timeoutMs} ms`)))
        .end();
    });
  }

  return { open, close: () => agent.destroy() };
}
