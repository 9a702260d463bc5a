/** A port of a process for its supervisor and for Prometheus: whether it lives, and its metrics. */

import { createServer } from 'node:http';
import { hostname } from 'node:os';
import type { ReadableMetrics } from './metrics.ts';

/** Probes and scrapes come every few seconds, and each is answered from memory. */
const CONNECTIONS_MAX = 50;
const REQUEST_TIMEOUT_MS = 5_000;

export interface ProbeOptions {
  host: string;
  /** 0: any that is free. */
  port: number;
  /** The names of the loops that stand still. */
  hanging: () => string[];
  metrics: ReadableMetrics;
}

/** @throws when the port is taken */
export async function openProbe({ host, port, hanging, metrics }: ProbeOptions) {
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    const answer = (status: number, type: string, text: string): void => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(text);
    };
    const answerJson = (status: number, body: object): void =>
      answer(status, 'application/json; charset=utf-8', JSON.stringify(body));
    if (request.method === 'GET' && request.url === '/healthz') {
      // A store or Temporal that is away is no reason to start the worker again: it would find them away too.
      const loops = hanging();
      answerJson(
        loops.length === 0 ? 200 : 503,
        loops.length === 0 ? { status: 'ok' } : { status: 'hanging', loops },
      );
    } else if (request.method === 'GET' && request.url === '/metrics') {
      metrics.read().then(
        (text) => answer(200, metrics.contentType, text),
        () => answerJson(500, { status: 'error' }),
      );
    } else {
      answerJson(404, { status: 'not_found' });
    }
  });
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const address = server.address();
  const given = typeof address === 'object' && address ? address.port : port;
  return {
    url: `http://${nameOf(host)}:${given}`,
    async close(): Promise<void> {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** By which others find it: where it listens on every address, that is the machine's name. */
function nameOf(host: string): string {
  if (host === '0.0.0.0' || host === '::') return hostname();
  return host.includes(':') ? `[${host}]` : host;
}
