/** JSON bodies: of this type, not compressed, and no larger than so many bytes. */

import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { parse } from '@hapi/bourne';
import type { Middleware } from 'koa';
import { Problem } from './problem.ts';

/** RFC 8259 knows no other encoding than UTF-8, so naming it is all that the parameter can do. */
const JSON_TYPE = /^\s*application\/json\s*(?:;\s*charset\s*=\s*"?utf-8"?\s*)?;?\s*$/i;

/** What the middleware has read. */
export interface BodyState {
  body: unknown;
  /** As it was sent, for signatures. */
  rawBody: string;
}

/**
 * Reads the body into `ctx.state`. Written here because general parsers, which also know forms, other
 * encodings and compression, take several times as long for a cart of some hundred bytes.
 */
export function jsonBody(limitBytes: number): Middleware<BodyState> {
  return async (ctx, next) => {
    const { headers } = ctx.req;
    if (!JSON_TYPE.test(headers['content-type'] ?? '')) {
      throw new Problem('unsupported_media_type', 'Send the body as application/json, in UTF-8.');
    }
    // Inflating it would be a thousand times as much work for us as for the caller.
    if (!['', 'identity'].includes(headers['content-encoding'] ?? '')) {
      throw new Problem('unsupported_content_encoding', 'Send the body as it is, not compressed.', {
        headers: { 'Accept-Encoding': 'identity' },
      });
    }
    const bytes = await readBytes(ctx.req, limitBytes);
    // Each other byte would become the same character, and two ids one.
    if (!isUtf8(bytes)) throw unreadable();
    const text = bytes.toString();
    ctx.state.rawBody = text;
    ctx.state.body = parseJson(text);
    await next();
  };
}

/** As `jsonBody`, for calls that need no body: without one, `ctx.state.body` is empty. */
export function optionalJsonBody(limitBytes: number): Middleware<BodyState> {
  const read = jsonBody(limitBytes);
  return async (ctx, next) => {
    const { headers } = ctx.req;
    if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0)
      return read(ctx, next);
    ctx.state.rawBody = '';
    ctx.state.body = {};
    await next();
  };
}

/** The rest of a body that is too large is read and dropped, or the next request would never arrive. */
function readBytes(request: IncomingMessage, limitBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const refuse = (): void =>
      reject(new Problem('body_too_large', 'The body is larger than this resource takes.'));
    if (Number(request.headers['content-length'] ?? 0) > limitBytes) refuse();
    request
      .on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > limitBytes) refuse();
        else chunks.push(chunk);
      })
      .once('end', () => resolve(join(chunks)))
      // The caller went away half-way: no answer reaches it, and nothing is wrong with us.
      .once('error', () => reject(unreadable()));
  });
}

function join(chunks: readonly Buffer[]): Buffer {
  const [first] = chunks;
  return first && chunks.length === 1 ? first : Buffer.concat(chunks);
}

/** @throws Problem 400 for what is no JSON, is no object, or would set a prototype */
function parseJson(text: string): unknown {
  if (text === '') return {};
  const value = readJson(text);
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  const faults = [{ path: '', message: 'an object' }];
  throw new Problem('invalid_request', 'The request is not as it must be.', { extra: { faults } });
}

function readJson(text: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) throw unreadable();
    throw error;
  }
}

function unreadable(): Problem {
  return new Problem('malformed_request', 'The request could not be read.');
}
