/** What a call brings and asks for: its JSON body, its query, the entity tag that it knows. */

import { isUtf8 } from 'node:buffer';
import { hash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { parse } from '@hapi/bourne';
import { z } from 'zod';
import { IDEMPOTENCY_KEY_PATTERN } from '../../orders/content.ts';
import { overloaded } from './http-server.ts';
import { Problem } from './problem.ts';

/** What was read of a request's body. */
export interface BodyState {
  body: unknown;
  /** As it was sent, for signatures. */
  rawBody: string;
}

/** Bytes of a JSON request body. A full cart is under 3 KiB. */
export const MAX_BODY_BYTES = 16 * 1024;

// Bounds the bytes of the bodies that a process keeps at once, over all connections. When it is full the
// body that has taken longest to arrive gives way: an honest one arrives at once, and one that never ends
// is not to keep others out.

/** What a piece costs beside its bytes: a sender may send each byte as a chunk of its own. */
const PIECE_BYTES = 128;

/** The part of one body. */
interface BodyShare {
  /** Counts a further piece. May refuse this body or others. */
  add: (bytes: number) => void;
  /** It has arrived, and will be worked on: it does not give way any more. */
  arrived: () => void;
  /** Gives everything back. */
  end: () => void;
}

export interface BodyBudget {
  /** @param giveWay is called at most once, and then nothing of the body may be kept */
  begin: (giveWay: () => void) => BodyShare;
}

export function createBodyBudget(bytesMax: number, onShed: () => void): BodyBudget {
  let bytesKept = 0;
  /** Those that have not arrived, the longest under way first. */
  const arriving = new Set<Part>();

  function end(part: Part): void {
    arriving.delete(part);
    bytesKept -= part.bytes;
    part.bytes = 0;
  }

  return {
    begin(giveWay) {
      const part: Part = { bytes: 0, giveWay };
      arriving.add(part);
      return {
        add(bytes) {
          if (!arriving.has(part)) return;
          part.bytes += bytes + PIECE_BYTES;
          bytesKept += bytes + PIECE_BYTES;
          for (const oldest of arriving) {
            if (bytesKept <= bytesMax) return;
            end(oldest);
            onShed();
            oldest.giveWay();
          }
        },
        arrived: () => void arriving.delete(part),
        end: () => end(part),
      };
    },
  };
}

interface Part {
  bytes: number;
  giveWay: () => void;
}

/**
 * RFC 8259 knows no other encoding than UTF-8, so naming it is all that the parameter can do. Between two
 * runs of spaces stands what is no space: else a long header would take the square of its length.
 */
const JSON_TYPE = typeOf('json');
const PATCH_TYPE = typeOf(String.raw`(?:merge-patch\+)?json`);

function typeOf(subtype: string): RegExp {
  const parameters = String.raw`\s*(?:;\s*(?:charset\s*=\s*"?utf-?8"?\s*(?:;\s*)?)?)?`;
  return new RegExp(String.raw`^\s*application/${subtype}${parameters}$`, 'i');
}

/** The next round of repeats finds room: what does not arrive within 15 seconds is cut off. */
const OVERFULL_RETRY_SECONDS = 5;

type ReadBody = (
  ctx: { req: IncomingMessage; state: BodyState },
  next: () => Promise<unknown>,
) => Promise<unknown>;

/**
 * Reads the body into `ctx.state`. Written here because general parsers, which also know forms, other
 * encodings and compression, take several times as long for a cart of some hundred bytes.
 */
export function jsonBody(limitBytes: number, budget: BodyBudget): ReadBody {
  const read = textBody(limitBytes, budget);
  return (ctx, next) =>
    read(ctx, () => {
      ctx.state.body = parseJson(ctx.state.rawBody);
      return next();
    });
}

/** As `jsonBody`, for what is verified before it is parsed: only `ctx.state.rawBody` is there. */
export function textBody(limitBytes: number, budget: BodyBudget): ReadBody {
  return async (ctx, next) => {
    const { headers, method } = ctx.req;
    // Each PATCH is a merge patch (RFC 7396).
    const known = method === 'PATCH' ? PATCH_TYPE : JSON_TYPE;
    if (!known.test(headers['content-type'] ?? '')) {
      throw new Problem('unsupported_media_type');
    }
    // Inflating it would be a thousand times as much work for us as for the caller.
    if (!['', 'identity'].includes(headers['content-encoding'] ?? '')) {
      throw new Problem('unsupported_content_encoding', {
        headers: { 'Accept-Encoding': 'identity' },
      });
    }
    const body = collect(ctx.req, limitBytes, budget);
    try {
      const bytes = await body.whole;
      // Each other byte would become the same character, and two ids one.
      if (!isUtf8(bytes)) throw unreadable();
      ctx.state.rawBody = bytes.toString();
      await next();
    } finally {
      body.forget();
    }
  };
}

/** As `jsonBody`, for calls that need no body: without one, `ctx.state.body` is empty. */
export function optionalJsonBody(limitBytes: number, budget: BodyBudget): ReadBody {
  const read = jsonBody(limitBytes, budget);
  return async (ctx, next) => {
    const { headers } = ctx.req;
    if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0)
      return read(ctx, next);
    ctx.state.rawBody = '';
    ctx.state.body = {};
    return next();
  };
}

/** The rest of a body that is refused is read and dropped, or the next request would never arrive. */
function collect(
  request: IncomingMessage,
  limitBytes: number,
  budget: BodyBudget,
): { whole: Promise<Buffer>; forget: () => void } {
  const chunks: Buffer[] = [];
  let bytes = 0;
  let refuse: (problem: Problem) => void = () => {};
  const share = budget.begin(() => refuse(overloaded(OVERFULL_RETRY_SECONDS)));
  const whole = new Promise<Buffer>((resolve, reject) => {
    let isRefused = false;
    refuse = (problem) => {
      isRefused = true;
      chunks.length = 0;
      share.end();
      reject(problem);
    };
    if (Number(request.headers['content-length'] ?? 0) > limitBytes) refuse(tooLarge());
    request
      .on('data', (chunk: Buffer) => {
        if (isRefused) return;
        bytes += chunk.length;
        chunks.push(chunk);
        if (bytes > limitBytes) refuse(tooLarge());
        else share.add(chunk.length);
      })
      .once('end', () => {
        share.arrived();
        resolve(join(chunks));
      })
      // The caller went away half-way: no answer reaches it, and nothing is wrong with us.
      .once('error', () => refuse(unreadable()));
  });
  return { whole, forget: share.end };
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
  throw new Problem('invalid_request', { extra: { faults } });
}

function readJson(text: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) throw unreadable();
    throw error;
  }
}

function tooLarge(): Problem {
  return new Problem('body_too_large');
}

function unreadable(): Problem {
  return new Problem('malformed_request');
}

/** @throws Problem 400 when it is missing or malformed */
export function readIdempotencyKey(ctx: { get: (header: string) => string }): string {
  const key = ctx.get('Idempotency-Key');
  if (key === '') throw new Problem('idempotency_key_missing');
  if (!IDEMPOTENCY_KEY_PATTERN.test(key)) {
    throw new Problem('idempotency_key_invalid');
  }
  return key;
}

/** RFC 3339, with any offset. It becomes Unix time in ms. */
export const moment = z.iso.datetime({ offset: true }).transform((text) => Date.parse(text));

/** A place in a list, or a number of its entries: not negative, and within exact integers. */
export const wholeNumber = z
  .string()
  .regex(/^\d{1,15}$/)
  .transform(Number);

/** In the OpenAPI document. */
export const LIMIT_MEANS = 'At most so many.';

/** Entries of a page: as many as there may be, unless the caller wants fewer. */
export function pageLimit(max: number) {
  return z
    .string()
    .regex(/^\d{1,3}$/)
    .transform(Number)
    .pipe(z.int().min(1).max(max))
    .describe(LIMIT_MEANS)
    .default(max);
}

/** Equal texts and files have equal tags. */
export function entityTagOf(text: string | Buffer): string {
  return `"${hash('sha256', text, 'base64url')}"`;
}

/**
 * Whether a caller has what this tag names already; `*` matches any (RFC 9110, 13.1.2).
 * @param ifNoneMatch the header, empty without one
 */
export function isKnown(tag: string, ifNoneMatch: string): boolean {
  const known = ifNoneMatch.split(',').map((each) => each.trim().replace(/^W\//, ''));
  return known.includes('*') || known.includes(tag);
}
