/**
 * Answers the calls that come in a rush, purchases and polls, in front of Koa, which spares them its context,
 * its router and its chain. The steps are functions that Koa's router has too, and the answers are the same;
 * a call that is asked in another way, say with a query, is Koa's.
 */

import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import type { RequestState } from './auth.ts';
import type { BodyState } from './json-body.ts';
import { answerTo, UNCACHED } from './problem.ts';

type Headers = Record<string, string | number>;

/** What the steps of such a call use of Koa's context, in Koa's words. */
export interface Call {
  req: IncomingMessage;
  res: ServerResponse;
  state: RequestState & BodyState;
  /** Of the path. */
  params: Record<string, string>;
  query: object;
  /** The caller's address; any text where a proxy tells it. */
  ip: string;
  status: number;
  body?: unknown;
  get: (header: string) => string;
  set: (header: string, value: string) => unknown;
}

/** It may throw at once, as well as reject. */
type Step = (call: Call, next: () => Promise<unknown>) => Promise<unknown>;

interface DirectRoute {
  method: string;
  /** Of the whole path, without a query; its named groups are the parameters. */
  path: RegExp;
  steps: readonly Step[];
}

interface DirectOptions {
  routes: readonly DirectRoute[];
  addressOf: (request: IncomingMessage, response: ServerResponse) => string;
  log: Logger;
  /** Answers all other calls. */
  otherwise: RequestListener;
}

const NO_QUERY = {};
const NO_RIGHTS: RequestState['scopes'] = new Set();

export function answerDirectly({ routes, addressOf, log, otherwise }: DirectOptions): RequestListener {
  async function answer(
    request: IncomingMessage,
    response: ServerResponse,
    { steps, params }: Pick<DirectRoute, 'steps'> & Pick<Call, 'params'>,
  ): Promise<void> {
    const headers: Headers = { ...UNCACHED };
    const call: Call = {
      req: request,
      res: response,
      state: { userId: '', scopes: NO_RIGHTS, body: undefined, rawBody: '' },
      params,
      query: NO_QUERY,
      ip: addressOf(request, response),
      status: 200,
      body: undefined,
      get: (name) => String(request.headers[name.toLowerCase()] ?? ''),
      set: (name, value) => (headers[name] = value),
    };
    try {
      await take(steps, call);
      if (call.body === undefined) {
        write(response, call.status, headers);
      } else {
        headers['Content-Type'] = 'application/json; charset=utf-8';
        write(response, call.status, headers, JSON.stringify(call.body));
      }
    } catch (error) {
      const problem = answerTo(error, { path: request.url ?? '', log });
      write(response, problem.status, problem.headers, problem.body);
    }
  }

  return (request, response) => {
    for (const { method, path, steps } of routes) {
      const found = request.method === method ? path.exec(request.url ?? '') : null;
      if (!found) continue;
      void answer(request, response, { steps, params: found.groups ?? {} });
      return;
    }
    otherwise(request, response);
  };
}

function take(steps: readonly Step[], call: Call, index = 0): Promise<unknown> {
  const step = steps[index];
  return step ? step(call, () => take(steps, call, index + 1)) : Promise.resolve();
}

function write(response: ServerResponse, status: number, headers: Headers, body?: string): void {
  // The caller has gone meanwhile.
  if (response.closed) return;
  if (body !== undefined) headers['Content-Length'] = Buffer.byteLength(body);
  response.writeHead(status, headers).end(body);
}
