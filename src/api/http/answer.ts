/**
 * How a call is answered: what was sent is read by the schemas of its entry, its handler returns a reply or
 * an outcome, and here alone that becomes an answer.
 */

import assert from 'node:assert/strict';
import type { Readable } from 'node:stream';
import type { z } from 'zod';
import type { BodyRule, CallContext, Entry, ReplyHeader } from './entry.ts';
import type { ProblemCode, UnavailableCode } from './problem-codes.ts';
import { parseInput, Problem, problemOf, unavailable } from './problem.ts';

export interface Reply<Body> {
  kind: 'reply';
  status: number;
  body: Body;
  headers: Partial<Record<ReplyHeader | 'Content-Type', string>>;
}

export function reply<Body>(body: Body, status = 200, headers: Reply<Body>['headers'] = {}): Reply<Body> {
  return { kind: 'reply', status, body, headers };
}

/** A body that is text already, or a stream of text. No type checks it against `replies`. */
export function written(
  body: Readable | string,
  headers: Reply<never>['headers'],
  status?: number,
): Reply<never>;
export function written(body: unknown, headers: Reply<never>['headers'], status = 200): Reply<unknown> {
  return reply(body, status, headers);
}

/** The parts of a path. */
interface ParamsRule<Params> {
  schema: z.ZodType<Params>;
  /** Refused where they do not fit: then there is nothing of this name. `invalid_request` unless given. */
  otherwise?: ProblemCode;
}

/** What a caller sent. A part without a schema is undefined. */
interface Asked<Params, Query, Body> {
  params: Params;
  query: Query;
  body: Body;
  /** The user id of the token. */
  actor: string;
  ctx: CallContext;
}

/** An entry with its handler. */
export interface Answering<
  World,
  Params,
  Query,
  Body,
  Replies extends Readonly<Record<number, z.ZodType>>,
  Outcome extends { kind: string },
> extends Omit<Entry, 'refuses' | 'body' | 'query'> {
  params?: ParamsRule<Params>;
  query?: z.ZodObject & z.ZodType<Query>;
  body?: BodyRule<z.ZodType<Body>>;
  replies: Replies;
  /** Its answer while a store does not answer. */
  away?: UnavailableCode;
  /** By the kind of an outcome. The outcome has the members that the problem has beside the usual ones. */
  refuses: Readonly<Record<Exclude<Outcome['kind'], 'reply'>, ProblemCode>>;
  /** Codes that its handler throws, because the problem needs more than an outcome has. */
  throws?: readonly ProblemCode[];
  answer: (
    world: World,
    asked: Asked<Params, Query, Body>,
  ) => Promise<Reply<z.input<Replies[keyof Replies]>> | Outcome>;
}

/** What an entry is mounted and described by. */
export function answering<
  World,
  Params,
  Query,
  Body,
  Replies extends Readonly<Record<number, z.ZodType>>,
  Outcome extends { kind: string },
>({
  params,
  query,
  body,
  away,
  throws = [],
  answer,
  ...call
}: Answering<World, Params, Query, Body, Replies, Outcome>) {
  const refuses: Readonly<Record<string, ProblemCode>> = call.refuses;
  const codes = [params?.otherwise ?? [], Object.values(refuses), throws, away ?? []].flat();

  async function handle(world: World, ctx: CallContext): Promise<void> {
    const asked = {
      params: readParams(params, ctx.params),
      query: read(query, { ...ctx.query }),
      body: read(body?.isSigned ? undefined : body?.schema, ctx.state.body),
      actor: ctx.state.userId,
      ctx,
    };
    const result = await answer(world, asked).catch((error: unknown) => {
      if (away === undefined || error instanceof Problem || isFault(error)) throw error;
      throw unavailable(away, error);
    });
    if (isReply(result)) {
      ctx.status = result.status;
      for (const [name, value] of Object.entries(result.headers)) ctx.set(name, value);
      if (result.status !== 204 && result.status !== 304) ctx.body = result.body;
    } else {
      const code = refuses[result.kind];
      assert(code !== undefined, `${call.id} has no answer to ${result.kind}`);
      throw problemOf(code, result);
    }
  }

  return { refuses: [...new Set(codes)], handle };
}

function readParams<Params>(rule: ParamsRule<Params> | undefined, given: unknown): Params {
  if (!rule?.otherwise) return read(rule?.schema, given);
  const parsed = rule.schema.safeParse(given);
  if (!parsed.success) throw new Problem(rule.otherwise);
  return parsed.data;
}

/** The handler of an entry without a schema does not read the part. */
function read<T>(schema: z.ZodType<T> | undefined, given: unknown): T;
function read(schema: z.ZodType | undefined, given: unknown): unknown {
  return schema && parseInput(schema, given);
}

function isReply<Body>(result: Reply<Body> | { kind: string }): result is Reply<Body> {
  return result.kind === 'reply';
}

/** A mistake of the code, and no store that is away. Where no server answers, `fetch` throws with a cause. */
function isFault(error: unknown): boolean {
  if (error instanceof TypeError && error.cause !== undefined) return false;
  return [assert.AssertionError, RangeError, ReferenceError, TypeError].some(
    (fault) => error instanceof fault,
  );
}
