/**
 * What a call says of itself, once: its router, its scope, docs/api.md, the OpenAPI document and the client
 * follow from it, and tests hold each answer to it.
 */

import type { Context } from 'koa';
import type { z } from 'zod';
import type { RequestState } from './auth.ts';
import type { ProblemCode } from './problem-codes.ts';
import type { BodyState } from './request.ts';

/** Headers that a call may read, beside those that every call may have. */
export type RequestHeader =
  | 'Idempotency-Key'
  | 'If-None-Match'
  | 'If-Match'
  | 'Prefer'
  | 'Accept'
  | 'Last-Event-ID';

/** Headers that an answer has, beside those that every answer has. */
export type ReplyHeader =
  | 'ETag'
  | 'Location'
  | 'Retry-After'
  | 'Cache-Control'
  | 'Preference-Applied'
  | 'RateLimit'
  | 'RateLimit-Policy';

/** A JSON body; it must be there unless `isOptional`. */
export interface BodyRule<Body extends z.ZodType = z.ZodType> {
  schema: Body;
  isOptional?: true;
  /** Bytes that it may have: MAX_BODY_BYTES unless given. */
  bytesMax?: number;
  /** It is verified as it came, before anything reads it. */
  isSigned?: true;
}

export interface Entry {
  /** Its `operationId`, and its name in the client: it stays. */
  id: string;
  /** What it does, in one line without a full stop. */
  does: string;
  /** Its handler reads the query by this schema. */
  query?: z.ZodObject;
  /** Its handler reads the body by this schema. */
  body?: BodyRule;
  reads?: readonly RequestHeader[];
  /** Its answers by status, problem documents apart. */
  replies: Readonly<Record<number, z.ZodType>>;
  /** Its answer of 200 goes on for as long as there are events; else it is JSON. */
  isEventStream?: true;
  /** Headers of its answers, by status; a refusal has those of its status as well. */
  gives?: Readonly<Record<number, readonly ReplyHeader[]>>;
  /**
   * What its handler refuses with. What a token, a scope, a body, a query, a lane and a fault of ours are
   * answered with follows from the rest of the entry.
   */
  refuses: readonly ProblemCode[];
}

type Method = 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE';

/** By method and path. */
export type Calls<Path extends string, Each extends Entry> = Readonly<Record<`${Method} ${Path}`, Each>>;

export type CallContext = Context & { state: RequestState & BodyState; params: Record<string, string> };

/** A call of shoppers, of their browsers, or of the provider. @param Shop what it works with */
export interface ShopCall<Shop> extends Entry {
  /** shopper: by a token, of any rights. provider: by the signature of the body. */
  who: 'anyone' | 'shopper' | 'provider';
  lane: ShopLane;
  /** Thousands come in one second: without a query it is answered ahead of the router. */
  isHot?: true;
  /** Comes before the lane. What it does not answer itself it passes on. */
  watch?: (shop: Shop, ctx: CallContext, next: () => Promise<unknown>) => Promise<unknown>;
  /** @throws Problem where it refuses */
  handle: (shop: Shop, ctx: CallContext) => Promise<void>;
}

/** watches: callers wait in bounds of their own, and enter a lane for their look-up alone. */
export type ShopLane = 'watches' | 'purchases' | 'notices' | 'payments' | 'others' | 'verifications';

export type ShopCalls<Shop> = Calls<`/v1/${string}`, ShopCall<Shop>>;

/** The parts of an entry's key. */
export function partsOf(call: string): { method: string; path: string } {
  const [method = '', path = ''] = call.split(' ');
  return { method, path };
}

/** What the server answers before a call is known, and what a fault of ours is answered with. */
const ANY_CALL = [
  'malformed_request',
  'request_timeout',
  'body_too_large',
  'expectation_failed',
  'headers_too_large',
  'internal_error',
] as const;

/** Every code that a call may be refused with, in the order of its parts. */
export function codesOf(entry: Entry & { who?: string; scope?: string }): ProblemCode[] {
  const { who, scope, body, query, reads, refuses } = entry;
  const needsToken = scope !== undefined || who === 'shopper';
  const codes: ProblemCode[] = [
    ...ANY_CALL,
    ...(needsToken ? (['unauthorized', 'keys_unavailable'] as const) : []),
    ...(scope === undefined ? [] : (['forbidden'] as const)),
    ...(body ? (['unsupported_media_type', 'unsupported_content_encoding'] as const) : []),
    ...(query || (body && !body.isSigned) ? (['invalid_request'] as const) : []),
    ...(reads?.includes('Idempotency-Key')
      ? (['idempotency_key_missing', 'idempotency_key_invalid'] as const)
      : []),
    // Of its lane, and of the bodies that arrive at once.
    'overloaded',
    ...refuses,
  ];
  return [...new Set(codes)];
}
