/** JSON bodies: of this type, not compressed, and no larger than so many bytes. */

import { bodyParser } from '@koa/bodyparser';
import type { Middleware } from 'koa';
import { Problem } from './problem.ts';

/** The parser itself answers 400 for what is no JSON or would set a prototype, and 413 for too much. */
export function jsonBody(limitBytes: number): Middleware {
  const parse = bodyParser({
    enableTypes: ['json'],
    jsonLimit: limitBytes,
    onError(error, ctx) {
      // The parser stops reading where it gave up; the rest must pass, or the next request never arrives.
      ctx.req.resume();
      throw error;
    },
  });
  return (ctx, next) => {
    if (ctx.is('application/json') === false) {
      throw new Problem('unsupported_media_type', 'Send the body as application/json.');
    }
    // The parser would inflate it: a few KiB from the caller, a thousand times as much work for us.
    if (!['', 'identity'].includes(ctx.get('Content-Encoding'))) {
      throw new Problem('unsupported_content_encoding', 'Send the body as it is, not compressed.', {
        headers: { 'Accept-Encoding': 'identity' },
      });
    }
    return parse(ctx, next);
  };
}
