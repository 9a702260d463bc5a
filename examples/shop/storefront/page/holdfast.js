/** The page's calls: to Holdfast on its own origin, and to the shop on this one. */

const TIMEOUT_MS = 15_000;
const TRIES_MAX = 6;
const PAUSE_MS = 1_000;

/**
 * @typedef {{ status: number, headers: Headers, body: any }} Answer status 0: there was none
 * @typedef {{ token?: string | undefined, headers?: Record<string, string>, body?: unknown }} Request
 */

/** @param {number} ms */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {Answer} answer */
export const isOk = ({ status }) => status >= 200 && status < 300;

/** @type {(method: string, url: string, request?: Request) => Promise<Answer>} */
export async function call(method, url, { token, headers = {}, body } = {}) {
  try {
    const response = await fetch(url, {
      method,
      headers: {
        ...(token !== undefined && { Authorization: `Bearer ${token}` }),
        ...(body !== undefined && { 'Content-Type': 'application/json' }),
        ...headers,
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const isJson = response.headers.get('Content-Type')?.includes('json') === true;
    return { status: response.status, headers: response.headers, body: isJson ? await response.json() : {} };
  } catch (error) {
    console.warn(error);
    return { status: 0, headers: new Headers(), body: {} };
  }
}

/**
 * Without an answer, and after one that says "later", the same call again: with its Idempotency-Key an order
 * is placed once, however often it is sent.
 * @type {typeof call}
 */
export async function callPatiently(method, url, request) {
  for (let tries = 1; ; tries += 1) {
    const answer = await call(method, url, request);
    const isLater = answer.status === 0 || (answer.status >= 500 && answer.headers.has('Retry-After'));
    if (!isLater || tries === TRIES_MAX) return answer;
    await pause(Number(answer.headers.get('Retry-After')) * 1_000 || PAUSE_MS);
  }
}

/**
 * In a shopper's words.
 * @param {Answer} answer
 */
export function explain({ status, body }) {
  switch (body.code ?? status) {
    case 0:
      return 'There is no answer. Please try again.';
    case 'sold_out':
      return body.available > 0
        ? `Only ${body.available} are left.`
        : 'Someone was faster: this is sold out.';
    case 'limit_reached':
    case 'sale_limit_reached':
      return `One person can have ${body.limit}; you have ${body.bought} already.`;
    case 'total_changed':
    case 'ticket_invalid':
    case 'ticket_used':
      return 'This took too long, or something changed. Please check out again.';
    case 'sale_not_open_yet':
      return 'The sale has not begun.';
    case 'sale_closed':
      return 'The sale is over.';
    case 'unauthorized':
      return 'Please sign out and in again.';
    default:
      return body.error ?? 'That did not work just now. Please try again in a moment.';
  }
}
