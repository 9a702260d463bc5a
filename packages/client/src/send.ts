/**
 * One call: with its token, bounded in time, and made again where that is safe. The generated functions and
 * the hand on top of them send through here.
 */

/** A token, or what gives one: it is asked before each call, so that one that has expired is replaced. */
export type TokenSource = string | (() => string | undefined | Promise<string | undefined>);

export interface ClientOptions {
  /** The address of Holdfast's API. */
  url: string;
  /** A shopper's, or one of the back office; looks at sales need none. */
  token?: TokenSource;
  /** `globalThis.fetch` unless given. */
  fetch?: typeof globalThis.fetch;
  /** How long one try may take, in ms. */
  timeoutMs?: number;
  /** How long one call is repeated at most, in ms. */
  patienceMs?: number;
  /** How often one call is sent at most. */
  triesMax?: number;
}

/** Of one call. */
export interface CallOptions {
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** Where it is sent to, and how patiently. */
  client?: Required<Omit<ClientOptions, 'token'>> & Pick<ClientOptions, 'token'>;
  /** Whether it may be sent again where it is not known what it did. */
  isRepeatable?: boolean;
  /** Codes of refusals after which it is sent again, once their Retry-After is over. */
  repeatsAfter?: readonly string[];
  timeoutMs?: number;
}

/** What a generated function adds: its method, its body and its headers. */
interface Sent extends Omit<CallOptions, 'headers'> {
  method?: string;
  body?: string;
  headers?: Record<string, string | readonly string[]>;
}

const TIMEOUT_MS = 15_000;
/** A queue at the opening is over by then, or the shopper should be told. */
const PATIENCE_MS = 60_000;
const TRIES_MAX = 8;
/** The first pause where the server names none; each further one is twice as long, up to the longest. */
const PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 8_000;
/** Callers that were refused together come back apart. */
const SPREAD_MS = 250;

/** The call was refused, or has no answer. */
export class HoldfastError extends Error {
  override name = 'HoldfastError';
  /** 0: there was no answer. */
  readonly status: number;
  /** As docs/api.md lists them; `no_answer` where there was none, `unknown` where another server refused. */
  readonly code: string;
  /** The problem document, with the members that belong to its code. */
  readonly problem: Readonly<Record<string, unknown>>;
  /** After how many ms the server asks to come again; undefined: it does not say. */
  readonly retryAfterMs: number | undefined;

  constructor(
    status: number,
    code: string,
    message: string,
    more: { problem?: Record<string, unknown>; retryAfterMs?: number | undefined; cause?: unknown } = {},
  ) {
    super(message, { cause: more.cause });
    this.status = status;
    this.code = code;
    this.problem = more.problem ?? {};
    this.retryAfterMs = more.retryAfterMs;
  }
}

export function withDefaults(options: ClientOptions): NonNullable<CallOptions['client']> {
  return {
    timeoutMs: TIMEOUT_MS,
    patienceMs: PATIENCE_MS,
    triesMax: TRIES_MAX,
    ...options,
    url: options.url.replace(/\/+$/, ''),
    // Called as a method it would lose its own `this`.
    fetch: options.fetch ?? ((...args) => globalThis.fetch(...args)),
  };
}

/**
 * Sends a call until it is answered, as far as its client's patience goes.
 * @throws HoldfastError where it is refused, or not answered
 */
export function send<T>(path: string, sent: Sent): Promise<T>;
/** The last one is what callers of a generated function may give it. */
export function send<T>(path: string, options?: CallOptions): Promise<T>;
export async function send<T>(path: string, sent: Sent = {}): Promise<T> {
  const { client, signal } = sent;
  if (!client) throw new TypeError('a call needs the client that sends it');
  const endsAtMs = Date.now() + client.patienceMs;
  for (let tries = 1; ; tries += 1) {
    const outcome = await tryOnce(path, sent, client).catch((error: unknown) => {
      // Called off by the caller: not a failure of the call.
      if (signal?.aborted) throw error;
      return noAnswer(error);
    });
    if (!(outcome instanceof HoldfastError)) return outcome as T;
    const pauseMs = pauseBefore(tries, outcome, sent);
    if (pauseMs === undefined || tries >= client.triesMax || Date.now() + pauseMs > endsAtMs) throw outcome;
    await pause(pauseMs, signal);
  }
}

interface Answer {
  status: number;
  data: unknown;
  headers: Headers;
}

async function tryOnce(
  path: string,
  { timeoutMs, ...sent }: Sent,
  client: NonNullable<CallOptions['client']>,
): Promise<Answer | HoldfastError> {
  const timeout = AbortSignal.timeout(timeoutMs ?? client.timeoutMs);
  const response = await request(
    path,
    sent,
    client,
    sent.signal ? AbortSignal.any([sent.signal, timeout]) : timeout,
  );
  if (!response.ok && response.status !== 304) return refusalOf(response);
  return { status: response.status, data: await readBody(response), headers: response.headers };
}

/** One request, whose answer is not read yet. */
export async function request(
  path: string,
  { method = 'GET', headers = {}, body }: Sent,
  { url, token, fetch }: NonNullable<CallOptions['client']>,
  signal: AbortSignal,
): Promise<Response> {
  const bearer = typeof token === 'function' ? await token() : token;
  const all = new Headers();
  for (const [name, value] of Object.entries(headers)) all.set(name, String(value));
  if (bearer !== undefined) all.set('Authorization', `Bearer ${bearer}`);
  return fetch(url + path, { method, headers: all, signal, ...(body !== undefined && { body }) });
}

async function readBody(response: Response): Promise<unknown> {
  const text = await response.text();
  if (text === '') return undefined;
  const isJson = response.headers.get('Content-Type')?.includes('json') === true;
  const parsed: unknown = isJson ? JSON.parse(text) : text;
  return parsed;
}

export async function refusalOf(response: Response): Promise<HoldfastError> {
  // A gateway refuses in words of its own.
  const body = await readBody(response).catch(() => undefined);
  const problem = typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : {};
  const textOf = (name: string) => (typeof problem[name] === 'string' ? problem[name] : undefined);
  const code = textOf('code') ?? 'unknown';
  const message = textOf('detail') ?? textOf('title') ?? `the answer was ${response.status}`;
  const retryAfterMs = readRetryAfter(response.headers.get('Retry-After'));
  return new HoldfastError(response.status, code, message, { problem, retryAfterMs });
}

/** Seconds, or a date (RFC 9110, 10.2.3). */
function readRetryAfter(text: string | null): number | undefined {
  if (text === null) return undefined;
  if (/^\d+$/.test(text)) return Number(text) * 1_000;
  const atMs = Date.parse(text);
  return Number.isNaN(atMs) ? undefined : Math.max(0, atMs - Date.now());
}

export function noAnswer(cause: unknown): HoldfastError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new HoldfastError(0, 'no_answer', `there was no answer: ${why}`, { cause });
}

/** How long to wait before the next try, in ms; undefined: there must be none. */
function pauseBefore(
  tries: number,
  { status, code, retryAfterMs }: HoldfastError,
  sent: Sent,
): number | undefined {
  const isLater = status === 429 || status === 503 || sent.repeatsAfter?.includes(code) === true;
  // The service says so itself, in its own words or by when.
  const isAsked = isLater && (retryAfterMs !== undefined || code !== 'unknown');
  // Nothing says what it did: no answer, a gateway's, or a fault of the service.
  const isUnknown = status === 0 || status === 500 || (status > 500 && code === 'unknown');
  if (!isAsked && !(isUnknown && isRepeatable(sent))) return undefined;
  return backOff(tries, retryAfterMs);
}

export function backOff(tries: number, retryAfterMs: number | undefined): number {
  const spreadMs = Math.random() * SPREAD_MS;
  if (retryAfterMs !== undefined) return retryAfterMs + spreadMs;
  return Math.min(PAUSE_MS * 2 ** (tries - 1), LONGEST_PAUSE_MS) + spreadMs;
}

/** By its method, or by the key that makes it one call however often it is sent. */
function isRepeatable({ method = 'GET', headers = {}, isRepeatable: isSafe }: Sent): boolean {
  const hasKey = Object.keys(headers).some((name) => name.toLowerCase() === 'idempotency-key');
  return isSafe ?? (method !== 'POST' || hasKey);
}

/** @throws the signal's reason once it is aborted */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(end, ms);
    function end(): void {
      signal?.removeEventListener('abort', stop);
      resolve();
    }
    function stop(): void {
      clearTimeout(timer);
      // oxlint-disable-next-line typescript/prefer-promise-reject-errors -- the caller's own reason
      reject(signal?.reason);
    }
    signal?.addEventListener('abort', stop, { once: true });
  });
}
