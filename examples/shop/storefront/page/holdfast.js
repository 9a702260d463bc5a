/** The page's calls: to Holdfast by its client, from another origin, and to the shop on this one. */

/** The storefront serves it as it is. A shop that bundles its pages imports it by its name. */
const CLIENT = '/client/index.js';
/** @type {typeof import('@holdfast/client')} */
export const { createClient, HoldfastError, newKey } = await import(CLIENT);

const TIMEOUT_MS = 15_000;

/** @param {number} ms */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * A call to the shop's own server. What it throws has the server's words for the shopper.
 * @param {string} method
 * @param {string} path
 * @param {{ token?: string | undefined, body?: unknown }} [request]
 * @returns {Promise<any>}
 */
export async function callShop(method, path, { token, body } = {}) {
  const response = await fetch(path, {
    method,
    headers: {
      ...(token !== undefined && { Authorization: `Bearer ${token}` }),
      ...(body !== undefined && { 'Content-Type': 'application/json' }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

/**
 * In a shopper's words.
 * @param {unknown} error
 */
export function explain(error) {
  if (!(error instanceof HoldfastError)) return error instanceof Error ? error.message : String(error);
  const { code, problem } = error;
  const [available, limit, bought] = ['available', 'limit', 'bought'].map((name) => Number(problem[name]));
  switch (code) {
    case 'no_answer':
      return 'There is no answer. Please try again.';
    case 'sold_out':
      return available ? `Only ${available} are left.` : 'Someone was faster: this is sold out.';
    case 'limit_reached':
    case 'sale_limit_reached':
      return `One person can have ${limit}; you have ${bought} already.`;
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
      return 'That did not work just now. Please try again in a moment.';
  }
}
