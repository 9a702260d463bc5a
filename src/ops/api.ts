/** The API as commands call it, with the token of who operates. */

import { z } from 'zod';
import type { OpsAccess } from '../config.ts';
import { messageOf } from '../log.ts';
import { OpsError, UsageError } from './terminal.ts';

/** Longer than the API waits for stores and for Temporal. */
const ANSWER_WITHIN_MS = 30_000;

const problemBody = z.looseObject({
  code: z.string(),
  detail: z.string(),
  faults: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
});
/** Members that every problem document has, and an order, which is no part of a sentence. */
const NOT_SAID = new Set(['type', 'title', 'status', 'code', 'detail', 'order']);

interface Sent {
  /** With it the call is a POST. */
  body?: object;
  headers?: Record<string, string>;
  withinMs?: number;
}

export type Api = ReturnType<typeof createApi>;

export function createApi({ HOLDFAST_URL: url, HOLDFAST_TOKEN: token }: OpsAccess) {
  const root = `${url.replace(/\/$/, '')}/v1/admin`;

  async function send(
    path: string,
    { body, headers, withinMs = ANSWER_WITHIN_MS }: Sent = {},
  ): Promise<Response> {
    const response = await fetch(`${root}/${path}`, {
      method: body ? 'POST' : 'GET',
      headers: {
        authorization: `Bearer ${token}`,
        ...(body && { 'content-type': 'application/json' }),
        ...headers,
      },
      body: body ? JSON.stringify(body) : null,
      signal: AbortSignal.timeout(withinMs),
    }).catch((error: unknown) => {
      throw new OpsError(`The API does not answer at ${url}: ${messageOf(error)}`, { cause: error });
    });
    if (response.ok) return response;
    throw refusalOf(response.status, await response.text());
  }

  return {
    /** @throws OpsError where the API refuses; UsageError where it finds the request at fault */
    send,

    /** As `send`, with the answer's body. */
    async call<T>(reply: z.ZodType<T>, path: string, sent?: Sent): Promise<{ status: number; body: T }> {
      const response = await send(path, sent);
      const parsed = reply.safeParse(await response.json());
      if (parsed.success) return { status: response.status, body: parsed.data };
      throw new OpsError(`The API at ${url} is of another version than this command.`);
    },
  };
}

function refusalOf(status: number, text: string): Error {
  const problem = problemBody.safeParse(readJson(text)).data;
  if (!problem) return new OpsError(`The API answered with ${status}.`);
  const { code, detail, faults = [] } = problem;
  if (code === 'invalid_request')
    return new UsageError(faults.map(({ path, message }) => `${path}: ${message}`).join('\n') || detail);
  const more = Object.entries(problem)
    .filter(([name]) => !NOT_SAID.has(name))
    .map(([name, value]) => `${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return new OpsError(more.length === 0 ? detail : `${detail} (${more.join(', ')})`);
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
