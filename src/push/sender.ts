/** Sends one HTTP request to an endpoint, in bounded time, to a permitted address, without redirects. */

import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import { MAX_PUSHES_IN_FLIGHT } from '../domain/limits.ts';
import { createPublicLookup, ForbiddenAddressError, isForbiddenHost } from './address.ts';

/** For name, connection and answer together. Standard Webhooks recommends between 15 and 30 seconds. */
const ATTEMPT_TIMEOUT_MS = 15_000;
/** Bytes of an answer's body that are read, and dropped; with more the connection is closed instead. */
const MAX_ANSWER_BYTES = 16 * 1024;
/** Idle connections that are kept to one endpoint. */
const IDLE_MAX = 4;
const MAX_HEADER_BYTES = 16 * 1024;

/** answered: with this status. failed: there was no answer; `error` says why, in words for the shop. */
export type Answer =
  | { kind: 'answered'; status: number; retryAfterMs: number }
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
  const resolve = allowPrivate ? lookup : (lookup ?? createPublicLookup());

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
        drop(response, () => done(toAnswer(response)));
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

/** Ends with the body, when it is too long, or when it breaks off: the status says all there is to know. */
function drop(response: IncomingMessage, onEnd: () => void): void {
  let bytes = 0;
  response.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) response.destroy();
  });
  response.on('error', () => {}).once('close', onEnd);
}

function toAnswer({ statusCode = 0, headers }: IncomingMessage): Answer {
  return { kind: 'answered', status: statusCode, retryAfterMs: readRetryAfterMs(headers['retry-after']) };
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
