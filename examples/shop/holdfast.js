/** Calls of the shop's programs to Holdfast. Each may be repeated, so one that fails for a while is. */

import { setTimeout as delay } from 'node:timers/promises';
import { signServiceToken } from './keys.js';
import { holdfastUrl } from './settings.js';

const TRIES_MAX = 60;
const PAUSE_MS = 1_000;
/** Longer than the feed's longest `wait`. */
const TIMEOUT_MS = 35_000;

/**
 * @typedef {{ headers?: Record<string, string>, body?: unknown }} Request
 * @typedef {{ status: number, headers: Headers, body: any }} Answer JSON, or text where it is none
 */

/**
 * @param {string} name of the program, which Holdfast's audit log will show
 * @param {string} scope what it may do
 */
export function createClient(name, scope) {
  /** @type {(method: string, path: string, request?: Request) => Promise<Answer>} */
  return async function call(method, path, { headers = {}, body } = {}) {
    for (let tries = 1; ; tries += 1) {
      const answer = await fetch(holdfastUrl + path, {
        method,
        headers: {
          authorization: `Bearer ${await signServiceToken(name, scope)}`,
          ...(body !== undefined && { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      }).then(read, describe);
      const isAway = typeof answer === 'string' || answer.status >= 500;
      if (!isAway) return answer;
      const why = typeof answer === 'string' ? answer : explain(answer);
      if (tries === TRIES_MAX) throw new Error(`${method} ${path}: ${why}`);
      if (tries === 1) console.log(`${method} ${path}: ${why}; trying again`);
      const seconds = typeof answer === 'string' ? 0 : Number(answer.headers.get('retry-after'));
      await delay(seconds * 1_000 || PAUSE_MS);
    }
  };
}

/** @param {Answer} answer */
export const isOk = ({ status }) => status >= 200 && status < 300;

/**
 * Why Holdfast refused, in words for a log: the `code` is what a program goes by.
 * @param {Answer} answer
 */
export function explain({ status, body }) {
  const faults = (body?.faults ?? []).map((/** @type {any} */ { path, message }) => ` ${path}: ${message}.`);
  return `${status} ${body?.code ?? ''}: ${body?.detail ?? ''}${faults.join('')}`;
}

/** @param {Response} response @returns {Promise<Answer>} */
async function read(response) {
  const { status, headers } = response;
  const isJson = headers.get('content-type')?.includes('json') === true;
  return { status, headers, body: await (isJson ? response.json() : response.text()) };
}

/** @param {unknown} error of a call without an answer */
function describe(error) {
  return error instanceof Error ? `no answer (${error.message})` : String(error);
}
