/** Makes one attempt at a delivery, and records what became of it. */

import { randomBytes } from 'node:crypto';
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import type { LimitFunction } from 'p-limit';
import { Webhook } from 'standardwebhooks';
import type { FeedEvent } from '../events/feed.ts';
import type { Stores } from '../stores/open.ts';
import type { Tracing } from '../tracing.ts';
import { ForbiddenAddressError, isForbiddenHost, lookUpPublic } from './address.ts';
import { MAX_PUSHES_IN_FLIGHT } from './deliveries.sql.ts';
import type { ClaimedDelivery, Tried } from './deliveries.sql.ts';
import { TEST_TYPE } from './replays.sql.ts';

// When a delivery that failed is tried again, and when an endpoint that is down is probed.

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

/** The pause after each failed try, as Standard Webhooks suggests; after the last one there is no other. */
export const RETRY_PAUSES_MS: readonly number[] = [
  5 * SECOND_MS,
  5 * MINUTE_MS,
  30 * MINUTE_MS,
  2 * HOUR_MS,
  5 * HOUR_MS,
  10 * HOUR_MS,
  14 * HOUR_MS,
  20 * HOUR_MS,
  24 * HOUR_MS,
];
/** Up to so much is added, so that what failed together does not come back together. */
const JITTER = 0.1;
/** What an endpoint may ask for by Retry-After. One that is to be left alone for longer can be disabled. */
const MAX_RETRY_AFTER_MS = HOUR_MS;
export const FIRST_PROBE_PAUSE_MS = SECOND_MS;
const MAX_PROBE_PAUSE_MS = MINUTE_MS;

/**
 * The pause after a failed try, in ms; undefined: it was the last.
 * @param attempts how many there were, with this one
 * @param retryAfterMs what the endpoint asked for
 */
function retryPauseMs(pausesMs: readonly number[], attempts: number, retryAfterMs = 0): number | undefined {
  const pauseMs = pausesMs[attempts - 1];
  if (pauseMs === undefined) return undefined;
  return Math.max(pauseMs * (1 + Math.random() * JITTER), boundedRetryAfterMs(retryAfterMs));
}

/** The pause before the next probe, in ms: growing, so that an endpoint that comes back is found soon. */
function probePauseMs(firstMs: number, failedProbes: number, retryAfterMs = 0): number {
  const pauseMs = Math.min(firstMs * 2 ** failedProbes, MAX_PROBE_PAUSE_MS);
  return Math.max(pauseMs * (1 - Math.random() * JITTER), boundedRetryAfterMs(retryAfterMs));
}

/** What the endpoint asked for, as far as it is honoured. */
function boundedRetryAfterMs(retryAfterMs: number): number {
  return Math.min(retryAfterMs, MAX_RETRY_AFTER_MS);
}

// What is sent: an event as the feed shows it, signed by Standard Webhooks.

/** As Standard Webhooks asks for: 24 to 64 bytes. */
const SECRET_BYTES = 32;

export function createSecret(): string {
  return `whsec_${randomBytes(SECRET_BYTES).toString('base64')}`;
}

/**
 * The headers of one attempt. While secrets rotate there is a signature by each, and a receiver needs one.
 * @param id stable over retries and replays
 */
export function signMessage(
  id: string,
  body: string,
  secrets: readonly string[],
  sentAt: Date,
): Record<string, string> {
  return {
    'content-type': 'application/json',
    'user-agent': 'Holdfast-Push/1',
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(sentAt.getTime() / 1_000)),
    'webhook-signature': secrets.map((secret) => new Webhook(secret).sign(id, sentAt, body)).join(' '),
  };
}

// Sends one HTTP request to an endpoint, in bounded time, to a permitted address, without redirects.

/** For name, connection and answer together. Standard Webhooks recommends between 15 and 30 seconds. */
const ATTEMPT_TIMEOUT_MS = 15_000;
/** Bytes of an answer's body that are read; with more the connection is closed. */
const MAX_ANSWER_BYTES = 16 * 1024;
/** Characters of an answer's body that are kept: an error's first lines. Each has at most four bytes. */
const MAX_ANSWER_CHARS = 500;
/** Idle connections that are kept to one endpoint. */
const IDLE_MAX = 4;
const MAX_HEADER_BYTES = 16 * 1024;

/** answered: with this status. failed: there was no answer; `error` says why, in words for the shop. */
export type Answer =
  | { kind: 'answered'; status: number; retryAfterMs: number; body: string }
  | { kind: 'failed'; error: string };

export interface SenderOptions {
  allowPrivate: boolean;
  timeoutMs?: number;
  /** Replaces the resolution of names, for tests. */
  lookup?: LookupFunction;
}

/** Keeps the connections to one endpoint: however slow it is, no other endpoint waits for them. */
export function createSender({ allowPrivate, timeoutMs = ATTEMPT_TIMEOUT_MS, lookup }: SenderOptions) {
  const connections = { keepAlive: true, maxSockets: MAX_PUSHES_IN_FLIGHT, maxFreeSockets: IDLE_MAX };
  const [http, https] = [new HttpAgent(connections), new HttpsAgent(connections)];
  const resolve = allowPrivate ? lookup : (lookup ?? lookUpPublic);

  async function once(url: URL, headers: Record<string, string>, body: string): Promise<Answer> {
    const isTls = url.protocol === 'https:';
    const late = new AbortController();
    // An answer that came while this process stood still is read first.
    const timer = setTimeout(() => setImmediate(() => late.abort()), timeoutMs);
    const options = {
      method: 'POST',
      headers: { ...headers, 'content-length': String(Buffer.byteLength(body)) },
      signal: late.signal,
      maxHeaderSize: MAX_HEADER_BYTES,
      ...(resolve && { lookup: resolve }),
    };
    return new Promise((done, fail) => {
      const sent = isTls
        ? httpsRequest(url, { ...options, agent: https })
        : httpRequest(url, { ...options, agent: http });
      let isAnswered = false;
      sent.once('response', (response) => {
        isAnswered = true;
        readBeginning(response, (beginning) => done(toAnswer(response, beginning)));
      });
      sent.on('error', (error: NodeJS.ErrnoException) => {
        // After the answer an error says only that its body broke off.
        if (isAnswered) return;
        fail(sent.reusedSocket && error.code === 'ECONNRESET' ? new StaleConnectionError() : error);
      });
      // Node closes a connection that is switched to another protocol, with neither an answer nor an error.
      sent.once('close', () => {
        clearTimeout(timer);
        if (!isAnswered) fail(new SwitchedProtocolError());
      });
      sent.end(body);
    });
  }

  return {
    /** Never throws. */
    async post(address: string, headers: Record<string, string>, body: string): Promise<Answer> {
      const url = new URL(address);
      if (!allowPrivate && isForbiddenHost(url)) return { kind: 'failed', error: NOT_PUBLIC };
      try {
        return await once(url, headers, body).catch((error: unknown) => {
          // The endpoint closed an idle connection just then: nothing is wrong with it.
          if (error instanceof StaleConnectionError) return once(url, headers, body);
          throw error;
        });
      } catch (error) {
        return { kind: 'failed', error: describe(error, timeoutMs) };
      }
    },

    close(): void {
      http.destroy();
      https.destroy();
    },
  };
}

export type Sender = ReturnType<typeof createSender>;

class StaleConnectionError extends Error {
  override name = 'StaleConnectionError';
}

class SwitchedProtocolError extends Error {
  override name = 'SwitchedProtocolError';
}

/** Ends with the body, when it is too long, or when it breaks off: the status decides. */
function readBeginning(response: IncomingMessage, onEnd: (beginning: string) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  response.on('data', (chunk: Buffer) => {
    if (bytes < MAX_ANSWER_CHARS * 4) chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) response.destroy();
  });
  response
    .on('error', () => {})
    .once('close', () => onEnd(Buffer.concat(chunks).toString().slice(0, MAX_ANSWER_CHARS)));
}

function toAnswer({ statusCode = 0, headers }: IncomingMessage, body: string): Answer {
  return {
    kind: 'answered',
    status: statusCode,
    retryAfterMs: readRetryAfterMs(headers['retry-after']),
    body,
  };
}

/** RFC 9110: seconds, or a date. 0: none is given, or none that can be read. */
function readRetryAfterMs(header = ''): number {
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1_000;
  const at = Date.parse(header);
  return Number.isNaN(at) ? 0 : Math.max(0, at - Date.now());
}

const NOT_PUBLIC = 'the address is inside a private network, which is not allowed';

const WORDS: Record<string, string> = {
  ENOTFOUND: 'the name is not known',
  EAI_AGAIN: 'the name could not be resolved',
  ECONNREFUSED: 'the connection was refused',
  ECONNRESET: 'the connection broke off',
  EPIPE: 'the connection broke off',
  ETIMEDOUT: 'the host does not answer',
  EHOSTUNREACH: 'the host cannot be reached',
  ENETUNREACH: 'the host cannot be reached',
  EPROTO: 'the host does not speak TLS there',
  ERR_SSL_WRONG_VERSION_NUMBER: 'the host does not speak TLS there',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'the host does not speak TLS there',
};

/** Never a message of the system's, which names addresses. */
function describe(error: unknown, timeoutMs: number): string {
  if (error instanceof ForbiddenAddressError) return NOT_PUBLIC;
  if (error instanceof SwitchedProtocolError) return 'the host switches to another protocol';
  const { code, name } = error instanceof Error ? codeOf(error) : { code: '', name: '' };
  if (name === 'AbortError' || name === 'TimeoutError') return `no answer within ${timeoutMs / 1_000} s`;
  if (/CERT|SIGNATURE|ERR_TLS/.test(code)) return 'the certificate of the host is not trusted';
  return WORDS[code] ?? `the request failed (${code || 'unknown'})`;
}

/** Of several addresses that were tried, the first one's error counts. */
function codeOf(error: Error): { code: string; name: string } {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error;
  const code = typeof first === 'object' && first !== null && 'code' in first ? String(first.code) : '';
  return { code, name: error.name };
}

/** A success is noted at most so often while nothing fails: all deliveries of an endpoint share its row. */
const NOTE_SUCCESS_EVERY_MS = 1_000;

export interface DelivererDeps extends Stores {
  /** The pause after each failed try, in ms. */
  retryPausesMs: readonly number[];
  /** The first pause before a probe, in ms. */
  firstProbeMs: number;
  /** Bounds the work with MySQL of all endpoints together. */
  storing: LimitFunction;
}

/** Where an attempt goes, and what it is signed with. */
export interface Target {
  url: string;
  secrets: readonly string[];
}

export type Deliverer = ReturnType<typeof createDeliverer>;

/** For one endpoint. */
export function createDeliverer(deps: DelivererDeps, sender: Pick<Sender, 'post'>) {
  const { deliveries, retryPausesMs, firstProbeMs, storing, tracing, log } = deps;
  let notedAtMs = 0;
  let hasFailed = false;

  async function succeed(delivery: ClaimedDelivery): Promise<void> {
    const isHeld = await deliveries.complete(delivery);
    // This process stood still: what it knows of the endpoint is old.
    if (!isHeld) return;
    const isRecent = Date.now() - notedAtMs < NOTE_SUCCESS_EVERY_MS;
    if (isRecent && !hasFailed && !delivery.isProbe) return;
    [notedAtMs, hasFailed] = [Date.now(), false];
    const wasDown = await deliveries.noteSuccess(delivery.endpointId);
    if (wasDown) log.info({ endpoint: delivery.endpointName }, 'an endpoint answers again');
  }

  async function fail(delivery: ClaimedDelivery, error: string, retryAfterMs: number): Promise<void> {
    hasFailed = true;
    const attempts = delivery.attempts + 1;
    const pausesMs = delivery.sequence === null ? [] : retryPausesMs;
    const isDownNow = await deliveries.fail(delivery, error, {
      retryMs: retryPauseMs(pausesMs, attempts, retryAfterMs),
      askedMs: boundedRetryAfterMs(retryAfterMs),
      probeMs: (failedProbes) => probePauseMs(firstProbeMs, failedProbes, retryAfterMs),
    });
    if (isDownNow) log.warn({ endpoint: delivery.endpointName, error }, 'an endpoint is down');
  }

  async function record(delivery: ClaimedDelivery, answer: Answer): Promise<void> {
    if (answer.kind === 'failed') return fail(delivery, answer.error, 0);
    const { status, retryAfterMs } = answer;
    if (status >= 200 && status < 300) return succeed(delivery);
    if (status === 410 && delivery.sequence !== null) {
      return deliveries.disableGone(delivery);
    }
    return fail(delivery, `answered ${status}`, retryAfterMs);
  }

  /** @param event undefined: it was deleted, or it is a test */
  return async function deliver(
    delivery: ClaimedDelivery,
    { url, secrets }: Target,
    event: FeedEvent | undefined,
  ): Promise<void> {
    const message = delivery.sequence === null ? toTest(delivery) : event;
    if (!message) {
      await storing(() => deliveries.park(delivery, 'the event is not there any more'));
      return;
    }
    const body = JSON.stringify(bodyOf(message));
    const sentAt = new Date();
    const headers = signMessage(delivery.eventId, body, secrets, sentAt);
    const span = tracing && (await begin(tracing, message, storing));
    if (span) headers['traceparent'] = span.traceparent;
    const answer = await sender.post(url, headers, body);
    span?.end(failureOf(answer));
    await storing(() => record({ ...delivery, tried: triedOf(answer, sentAt) }, answer));
  };
}

/** In the trace of the event's order, which the shop's own systems join by the header. */
async function begin(tracing: Tracing, message: Message, storing: LimitFunction) {
  if (!('orderNo' in message)) return undefined;
  const { orderNo, type, id } = message;
  const traceparent = await storing(() => tracing.find(orderNo));
  return tracing.begin(
    `push ${type}`,
    { orderNo, traceparent },
    { kind: 'client', attributes: { 'holdfast.event_id': id } },
  );
}

function triedOf(answer: Answer, sentAt: Date): Tried {
  const tookMs = Date.now() - sentAt.getTime();
  const said =
    answer.kind === 'answered'
      ? { status: answer.status, error: null, answer: answer.body }
      : { status: null, error: answer.error, answer: null };
  return { at: sentAt.toISOString(), tookMs, ...said };
}

function failureOf(answer: Answer): Error | undefined {
  if (answer.kind === 'failed') return new Error(answer.error);
  return answer.status < 300 ? undefined : new Error(`answered ${answer.status}`);
}

type Message = FeedEvent | ReturnType<typeof toTest>;

/** What is sent of an event. */
export function bodyOf(message: Message) {
  return { ...message, timestamp: message.occurredAt };
}

export function toTest({
  eventId,
  createdAtMs,
  endpointName,
}: Pick<ClaimedDelivery, 'eventId' | 'createdAtMs' | 'endpointName'>) {
  const occurredAt = new Date(createdAtMs).toISOString();
  return { id: eventId, type: TEST_TYPE, occurredAt, saleId: null, data: { endpoint: endpointName } };
}
