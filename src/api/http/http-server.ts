/** The API's HTTP server: its bounds against slow, stuck and hostile clients, its lanes, its close. */

import assert from 'node:assert/strict';
import {
  type IncomingMessage,
  type RequestListener,
  ServerResponse,
  createServer,
  STATUS_CODES,
  type Server,
  type OutgoingHttpHeader,
  type OutgoingHttpHeaders,
} from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import cors from 'cors';
import type { Clock } from '../../clock.ts';
import { createTurns } from '../../turns.ts';
import { USUAL_HEADERS, Problem, problemDocument, PROBLEM_TYPE, REQUEST_ID, requestIdOf } from './problem.ts';
import { closeServer } from './server-close.ts';

export interface HttpBounds {
  headersTimeoutMs: number;
  requestTimeoutMs: number;
  checkEveryMs: number;
  keepAliveTimeoutMs: number;
  stuckTimeoutMs: number;
  lingerMs: number;
  connectionsMax: number;
}

const BOUNDS: HttpBounds = {
  /**
   * Headers are one packet; a client that needs longer holds a socket for nothing. Counts from the
   * connection's first moment.
   */
  headersTimeoutMs: 10_000,
  /** A whole request must have arrived by then: carts are small. */
  requestTimeoutMs: 15_000,
  /** How often the two above are checked; with Node's own 30 s a slow sender stays three times as long. */
  checkEveryMs: 1_000,
  /** Longer than common load balancers keep idle connections (60 s); KEEP_ALIVE_SECONDS sets another. */
  keepAliveTimeoutMs: 65_000,
  /** Nothing moves while an answer is due: the client does not read. Longer than any answer takes. */
  stuckTimeoutMs: 40_000,
  /**
   * A client whose request is refused as malformed may still be sending it; closing at once would destroy the
   * answer on its way.
   */
  lingerMs: 1_000,
  /**
   * Ten thousand idle ones, and room for those that buy; about 200 MB, and below the file descriptors that
   * systems commonly give.
   */
  connectionsMax: 15_000,
};

/** Bytes of request line and headers: a token has at most 4 KiB, proxies add their own. */
const HEADER_BYTES_MAX = 16 * 1024;
/** Beyond it Node would drop headers without a word, maybe the one that counts. */
const HEADERS_MAX = 100;
/**
 * Connections that wait to be accepted. When a sale opens thousands come within one turn of the event loop;
 * beyond Node's 511 the kernel drops them, and a phone tries again after a second, then three, then seven.
 * Systems cap it, commonly at 4,096.
 */
const BACKLOG = 4_096;

export interface HttpServer {
  listen(port: number, host: string): Promise<AddressInfo>;
  /** Rejects when the server fails while it listens. */
  ended: Promise<void>;
  /** Goes on serving. From now on each answer tells the client that it is the last of its connection. */
  drain(): void;
  /** Answers what is under way, then closes; connections that are kept alive, as soon as they are idle. */
  close(): Promise<void>;
}

interface Exchange {
  request: IncomingMessage;
  response: ServerResponse;
}

type AnswerHeaders = OutgoingHttpHeaders | OutgoingHttpHeader[];

/** @param handle answers every request, and never throws; @param overrides for tests, which wait less */
export function createHttpServer(handle: RequestListener, overrides: Partial<HttpBounds> = {}): HttpServer {
  const bounds = { ...BOUNDS, ...overrides };
  /** What each connection has asked and may still be owed an answer for; several with pipelining. */
  const exchanges = new WeakMap<Duplex, Exchange[]>();
  const refused = new WeakSet<Duplex>();
  let isDraining = false;

  /**
   * While draining, an answer closes its connection: the client reads so before it sends the next request,
   * and no request is lost. The connection is kept where a close would lose something: the rest of a body
   * that is still arriving would be answered by a reset, and requests behind this one are answered after it.
   */
  class Answer extends ServerResponse {
    override writeHead(status: number, reason?: string | AnswerHeaders, headers?: AnswerHeaders): this {
      if (isDraining && isLast(this) && hasArrived(this.req)) this.shouldKeepAlive = false;
      return typeof reason === 'string'
        ? super.writeHead(status, reason, headers)
        : super.writeHead(status, reason);
    }
  }

  function isLast(answer: ServerResponse): boolean {
    return exchanges.get(answer.req.socket)?.at(-1)?.response === answer;
  }

  const server = createServer(
    {
      ServerResponse: Answer,
      headersTimeout: bounds.headersTimeoutMs,
      requestTimeout: bounds.requestTimeoutMs,
      connectionsCheckingInterval: bounds.checkEveryMs,
      keepAliveTimeout: bounds.keepAliveTimeoutMs,
      maxHeaderSize: HEADER_BYTES_MAX,
      // Its absence is ours to answer, so that it is a problem document like any other refusal.
      requireHostHeader: false,
    },
    (request, response) => {
      const open = exchanges.get(request.socket)?.filter(isUnanswered) ?? [];
      open.push({ request, response });
      exchanges.set(request.socket, open);
      request.url = pathOf(request.url ?? '');
      const fault = faultOf(request);
      if (fault) answerProblem(request, response, fault);
      else handle(request, response);
    },
  );
  server.maxHeadersCount = HEADERS_MAX;
  server.maxConnections = bounds.connectionsMax;
  server.timeout = bounds.stuckTimeoutMs;

  function refuse(socket: Duplex, problem: Problem): void {
    refused.add(socket);
    socket.end(rawAnswer(problem));
    const linger = setTimeout(() => socket.destroy(), bounds.lingerMs);
    socket.once('close', () => clearTimeout(linger));
  }

  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    if (refused.has(socket)) return;
    const asked = exchanges.get(socket) ?? [];
    const owed = asked.findLast((exchange) => exchange.request.complete && isUnanswered(exchange));
    const [last] = asked.slice(-1);
    if (owed) {
      // An order may be under way: the answer to what followed must not be taken for the answer to the order.
      owed.response.once('close', () => socket.destroy());
    } else if (
      !socket.writable ||
      // Without a request there is no answer: a connection opened ahead may be about to be used.
      socket.bytesRead === 0 ||
      (last && !last.request.complete && last.response.headersSent)
    ) {
      socket.destroy();
    } else {
      refuse(socket, toProblem(error.code ?? ''));
    }
  });
  server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
    answerProblem(request, response, new Problem('expectation_failed'));
  });
  server.on('connect', (_, socket) => {
    refuse(socket, new Problem('method_not_allowed'));
  });

  return {
    listen: (port, host) => listen(server, port, host),
    ended: new Promise<void>((_, reject) => server.once('error', reject)),
    drain: () => void (isDraining = true),
    close() {
      isDraining = true;
      return closeServer(server, bounds.requestTimeoutMs);
    },
  };
}

function isUnanswered({ response }: Exchange): boolean {
  return !response.writableFinished;
}

/** Node says so of a request without a body only after its handler has been called. */
function hasArrived({ complete, headers }: IncomingMessage): boolean {
  return complete || (!headers['transfer-encoding'] && Number(headers['content-length'] ?? 0) === 0);
}

/** A server also takes the whole URL that a proxy is sent (RFC 9112, 3.2.2). What is none stays as it is. */
function pathOf(target: string): string {
  if (target.startsWith('/') || !/^https?:/i.test(target) || !URL.canParse(target)) return target;
  const path = target.replace(/^[^/]*\/\/[^/?#]*/, '');
  return path.startsWith('/') ? path : `/${path}`;
}

/** What Node's parser lets through and we do not. */
function faultOf(request: IncomingMessage): Problem | undefined {
  if (request.rawHeaders.length > 2 * HEADERS_MAX) return headersTooLarge();
  // `*` means nothing here.
  if (request.url?.startsWith('/') !== true) return malformed();
  const hosts = countHosts(request.rawHeaders);
  return hosts === 1 || (hosts === 0 && request.httpVersion === '1.0') ? undefined : malformed();
}

/** @param rawHeaders names and values in turn; Node keeps the first of several hosts */
function countHosts(rawHeaders: readonly string[]): number {
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i];
    if (name?.length === 4 && name.toLowerCase() === 'host') hosts += 1;
  }
  return hosts;
}

/** @param code of Node's HTTP parser */
function toProblem(code: string): Problem {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return headersTooLarge();
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new Problem('body_too_large');
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new Problem('request_timeout');
    default:
      return malformed();
  }
}

function headersTooLarge(): Problem {
  return new Problem('headers_too_large');
}

function malformed(): Problem {
  return new Problem('malformed_request');
}

function answerProblem(request: IncomingMessage, response: ServerResponse, problem: Problem): void {
  const body = problemDocument(problem);
  const headers = {
    ...USUAL_HEADERS,
    [REQUEST_ID]: requestIdOf(request),
    'Content-Type': PROBLEM_TYPE,
    'Content-Length': Buffer.byteLength(body),
    Connection: 'close',
  };
  response.writeHead(problem.status, headers).end(body);
}

/** For a request that has got no further than its socket. */
function rawAnswer(problem: Problem): string {
  const body = problemDocument(problem);
  return [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
    ...Object.entries(USUAL_HEADERS).map(([name, value]) => `${name}: ${value}`),
    `Content-Type: ${PROBLEM_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
    '',
    body,
  ].join('\r\n');
}

function listen(server: Server, port: number, host: string): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen({ port, host, backlog: BACKLOG }, () => {
      const address = server.address();
      assert(address !== null && typeof address === 'object', 'a listening TCP server has an address');
      resolve(address);
    });
  });
}

/** Refused callers come back spread over so many seconds, not as a herd. */
const RETRY_SPREAD_SECONDS = 4;

/**
 * As long as a command to Redis may take. While Redis answers, a place comes free long before; when it hangs,
 * no caller waits for ever.
 */
const WAIT_MAX_MS = 2_000;

/** A call, as lanes see it. */
interface Visitor {
  res: { closed: boolean };
  /** The body is parsed, and not validated. */
  state?: { body?: unknown };
  params?: Record<string, string>;
}

export interface LaneOptions {
  /** Worked on at once. */
  placesMax: number;
  /**
   * How many may wait for a place. The groups in the lane share it: each may have `waitingMax` / groups
   * waiting. A group that was there before the others keeps what it has, so the group with the k-th most has
   * at most `waitingMax` / k. All together are at most `waitingMax` · (1 + 1/2 + … + 1/groups).
   */
  waitingMax: number;
  /** The group of a call. Groups take turns at the places. Without it all calls are one group. */
  groupOf?: (call: Visitor) => string;
  /** How much of `waitingMax` a call takes while it waits; 1 without it. */
  weightOf?: (call: Visitor) => number;
  /** Called for each refusal, of which there may be thousands a second. */
  onShed: () => void;
  clock: Clock;
}

export interface Lane {
  isFull: (group?: string) => boolean;
  /** Counts a refusal. @returns the seconds after which to come back */
  shed: () => number;
  /** Refuses a call that `enter` would refuse, so that the steps between do nothing for it. */
  requireRoom: (call: Visitor, next: () => Promise<unknown>) => Promise<unknown>;
  /** Occupies a place until all work is done, also for a caller that has gone meanwhile. */
  enter: (call: Visitor, next: () => Promise<unknown>) => Promise<void>;
}

export function createLane({ placesMax, waitingMax, onShed, clock, ...calls }: LaneOptions): Lane {
  const { groupOf = () => '', weightOf = () => 1 } = calls;
  let taken = 0;
  /** How many calls of each group are in the lane, at work or waiting. */
  const present = new Map<string, number>();
  const waiting = createTurns<Waiting>();
  const waitingWeights = new Map<string, number>();
  /** While calls wait, and at most so long beyond. */
  let isWatching = false;

  function isFull(group = '', weight = 1): boolean {
    if (taken < placesMax) return false;
    const groups = present.size + (present.has(group) ? 0 : 1);
    return (waitingWeights.get(group) ?? 0) + weight > Math.floor(waitingMax / groups);
  }

  function shed(): number {
    onShed();
    return 1 + Math.floor(Math.random() * RETRY_SPREAD_SECONDS);
  }

  function count(sums: Map<string, number>, group: string, change: number): void {
    const sum = (sums.get(group) ?? 0) + change;
    if (sum === 0) sums.delete(group);
    else sums.set(group, sum);
  }

  function wait(group: string, weight: number): Promise<void> {
    count(waitingWeights, group, weight);
    return new Promise<void>((start, reject) => {
      waiting.add(group, {
        start,
        refuse: () => reject(overloaded(shed())),
        untilMs: clock.nowMs() + WAIT_MAX_MS,
      });
      if (!isWatching) clock.after(WAIT_MAX_MS, refuseLate);
      isWatching = true;
    }).finally(() => count(waitingWeights, group, -weight));
  }

  /** All calls wait equally long, so the first of each group is late first: one timer is enough. */
  function refuseLate(): void {
    const nowMs = clock.nowMs();
    for (const { refuse } of waiting.takeWhile(({ untilMs }) => untilMs <= nowMs)) refuse();
    const nextMs = Math.min(...waiting.firsts().map(({ untilMs }) => untilMs));
    isWatching = nextMs < Infinity;
    if (isWatching) clock.after(nextMs - nowMs, refuseLate);
  }

  async function occupy(group: string, weight: number, work: () => Promise<unknown>): Promise<void> {
    if (taken < placesMax) taken += 1;
    else await wait(group, weight);
    try {
      await work();
    } finally {
      const next = waiting.take();
      if (next) next.start();
      else taken -= 1;
    }
  }

  return {
    isFull,
    shed,

    requireRoom(call, next) {
      if (isFull(groupOf(call), weightOf(call))) throw overloaded(shed());
      return next();
    },

    async enter(call, next) {
      const [group, weight] = [groupOf(call), weightOf(call)];
      if (isFull(group, weight)) throw overloaded(shed());
      count(present, group, 1);
      try {
        // A caller that has gone could not learn of its order, and nothing has been done for it yet.
        await occupy(group, weight, async () => call.res.closed || next());
      } finally {
        count(present, group, -1);
      }
    },
  };
}

interface Waiting {
  /** Gets the place of one that is done. */
  start: () => void;
  refuse: () => void;
  untilMs: number;
}

export function overloaded(seconds: number): Problem {
  return new Problem('overloaded', {
    retryAfterSeconds: seconds,
  });
}

/** Shoppers' calls. Webhooks and the back office are for servers, which need no leave of a browser. */
const SHOPPERS_PATH = /^\/v1\/(?:orders|sales)(?:[/?]|$)/;
const REQUEST_HEADERS = [
  'Authorization',
  'Content-Type',
  'Idempotency-Key',
  'If-None-Match',
  'Last-Event-ID',
  'Prefer',
  REQUEST_ID,
  'traceparent',
];
const EXPOSED_HEADERS = [
  'ETag',
  'Location',
  'Preference-Applied',
  'RateLimit',
  'RateLimit-Policy',
  'Retry-After',
  REQUEST_ID,
];
/** How long a browser may remember the answer to a preflight; none remembers it for longer. */
const REMEMBERED_SECONDS = 2 * 60 * 60;

/**
 * @param origins those of the shop, as browsers name them; without any, no origin is named in an answer
 * @returns answers as `handle` does
 */
export function shareAcrossOrigins(origins: readonly string[], handle: RequestListener): RequestListener {
  if (origins.length === 0) return handle;
  // Never with credentials: tokens come in a header that the page itself sets, and cookies do not exist here.
  const share = cors({
    origin: [...origins],
    methods: ['GET', 'HEAD', 'POST'],
    allowedHeaders: REQUEST_HEADERS,
    exposedHeaders: EXPOSED_HEADERS,
    maxAge: REMEMBERED_SECONDS,
  });
  return (request, response) => {
    if (isShared(request)) share(request, response, () => handle(request, response));
    else handle(request, response);
  };
}

/** An OPTIONS that is no preflight asks what the resource can do, and is answered like any other call. */
function isShared({ url, method, headers }: IncomingMessage): boolean {
  const isPreflight = headers['access-control-request-method'] !== undefined;
  return SHOPPERS_PATH.test(url ?? '') && (method !== 'OPTIONS' || isPreflight);
}
