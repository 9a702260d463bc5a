/** Sends one call to the provider's API, with a bound on its time and on the size of the reply. */

import { problemReplySchema } from './wire.ts';

export interface RemoteClientOptions {
  /** The provider's address. A path in it is kept. */
  baseUrl: string;
  apiKey: string;
  requestTimeoutMs: number;
}

/** Bytes of a reply. The largest is a page of 100 payments with the longest signed orders, about 1.7 MB. */
const MAX_REPLY_BYTES = 2 * 1024 * 1024;

export interface Reply {
  ok: boolean;
  status: number;
  /** Seconds, where the provider says when to repeat. */
  retryAfter: string | null;
  /** Undefined: of a refusal that is not JSON. */
  body: unknown;
}

/**
 * Sends the call. The timeout covers the reply's body too.
 * @throws when the provider is away or slow, or when its answer is too large, or no refusal and not JSON
 */
export async function send(
  options: RemoteClientOptions,
  method: 'GET' | 'POST' | 'PUT',
  path: string,
  call: { idempotencyKey?: string; body?: object } = {},
): Promise<Reply> {
  const base = options.baseUrl.endsWith('/') ? options.baseUrl : `${options.baseUrl}/`;
  const response = await fetch(new URL(path, base), {
    method,
    // The API key goes to the configured address and nowhere else.
    redirect: 'error',
    headers: {
      accept: 'application/json',
      authorization: `Bearer ${options.apiKey}`,
      ...(call.idempotencyKey === undefined ? {} : { 'idempotency-key': call.idempotencyKey }),
      ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
    signal: AbortSignal.timeout(options.requestTimeoutMs),
  });
  const text = await readBounded(response);
  const { ok, status } = response;
  const retryAfter = response.headers.get('retry-after');
  try {
    return { ok, status, retryAfter, body: JSON.parse(text) as unknown };
  } catch (error) {
    // A gateway in front of the provider refuses in words of its own, which have no code.
    if (!ok) return { ok, status, retryAfter, body: undefined };
    throw new Error(`the provider answered ${status} to ${path}, and not in JSON`, { cause: error });
  }
}

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_REPLY_BYTES) throw new Error(`the provider's reply exceeds ${MAX_REPLY_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

export function unexpected(attempt: string, reply: Reply): Error {
  return new Error(`the provider did not ${attempt}: ${reply.status} (${codeOf(reply) ?? 'no code'})`);
}

/** The stable code of a refusal; undefined when the reply has none. */
export function codeOf(reply: Reply): string | undefined {
  return problemReplySchema.safeParse(reply.body).data?.code;
}
