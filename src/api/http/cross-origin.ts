/**
 * Lets storefronts on other origins read the answers to shoppers' calls (CORS). It comes before all else, so
 * that answers given before any routing carry its headers too, and a preflight needs no token and no lane.
 */

import type { IncomingMessage, RequestListener } from 'node:http';
import cors from 'cors';

/** Shoppers' calls. Webhooks and the back office are for servers, which need no leave of a browser. */
const SHOPPERS_PATH = /^\/v1\/(?:orders|sales)(?:[/?]|$)/;
const REQUEST_HEADERS = ['Authorization', 'Content-Type', 'Idempotency-Key', 'If-None-Match', 'Prefer'];
const EXPOSED_HEADERS = ['ETag', 'Location', 'Retry-After'];
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
