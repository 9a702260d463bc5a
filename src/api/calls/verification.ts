/**
 * The verified path: a shopper's machine works on a challenge, and the solution is answered by a ticket. It
 * is a price, not a proof of a human. No store is asked: a challenge carries all that its ticket says, so
 * that a repeat gets the same ticket, and `reserve` spends it with the order, in the sale's slot.
 */

import { createSecretKey, hash, hkdfSync, type KeyObject } from 'node:crypto';
import { createChallenge, verifySolution } from 'altcha-lib';
import { deriveKey } from 'altcha-lib/algorithms/scrypt';
import { SignJWT } from 'jose';
import { ulid } from 'ulidx';
import { z } from 'zod';
import { saleIdSchema } from '../../orders/content.ts';
import type { Sale } from '../../sales/sale.ts';
import { reply } from '../http/answer.ts';
import type { CallContext, ShopCalls } from '../http/entry.ts';
import { overloaded } from '../http/http-server.ts';
import { Problem, type ChallengeFault } from '../http/problem.ts';
import { time } from '../http/replies.ts';
import { ofSale, shopCall } from './call.ts';
import type { SaleShop } from './sale-views.ts';
import { OWN_ISSUER, OWN_KEY_PREFIX, TICKET_TYPE } from './ticket.ts';

/** How long a challenge may be worked on: a slow phone needs half a minute, and none is kept in stock. */
const CHALLENGE_LIFE_MS = 5 * 60 * 1000;
/** From the opening on, or from the challenge where that is later. A ticket is for one purchase. */
const TICKET_LIFE_MS = 10 * 60 * 1000;
/**
 * Bytes that scrypt reads and writes at a time, over 128. With it a try takes as many KiB as its cost says.
 */
const BLOCK_SIZE = 8;
/** Of the result, in hex: one of 256 tries finds it. */
const PREFIX = '00';
/** Characters of an answer: one has about 900. */
const MAX_PAYLOAD_CHARS = 4_096;
const ALGORITHM = 'SCRYPT';
/** A check takes some milliseconds, and waits for others of a crowd. */
const BUSY_RETRY_SECONDS = 1;

const hex = z
  .string()
  .regex(/^[0-9a-f]{2,128}$/)
  .meta({ examples: ['00'] });
const aboutSchema = z
  .strictObject({
    id: z.string().meta({
      description: 'The id of the challenge, and of its ticket.',
      examples: ['01KAJ5T0ZV6Y3QH8M2C4D7E9FG'],
    }),
    // A browser's base64 takes no name beyond Latin letters.
    user: z.string().meta({
      description: 'A digest of the user.',
      examples: ['7qXlG3K5nWbT2vYpR8sZ1aC4dE6fH9jM0kN-oPqLuIw'],
    }),
    sale: saleIdSchema,
    begins: z
      .int()
      .meta({ description: 'When the ticket begins, in Unix seconds.', examples: [1_795_255_200] }),
    ends: z.int().meta({ description: 'When the ticket ends, in Unix seconds.', examples: [1_795_255_800] }),
  })
  .describe('What the ticket will say.');
type About = z.infer<typeof aboutSchema>;

const challengeReply = z
  .strictObject({
    parameters: z
      .strictObject({
        algorithm: z.literal(ALGORITHM).describe('The algorithm of a try.'),
        nonce: hex.describe('A random number, in hex.'),
        salt: hex.describe('A random salt, in hex.'),
        cost: z
          .int()
          .min(1)
          .meta({ description: 'KiB of memory of a try.', examples: [1024] }),
        memoryCost: z.literal(BLOCK_SIZE).describe('The block size of scrypt, its `r`.'),
        parallelism: z.literal(1).describe('The parallelism of scrypt, its `p`.'),
        keyLength: z.int().meta({ description: 'Bytes of the result.', examples: [32] }),
        keyPrefix: hex.describe('How the result begins, in hex.'),
        expiresAt: z.int().meta({
          description: 'Until then the challenge is to be answered, in Unix seconds.',
          examples: [1_795_255_500],
        }),
        data: aboutSchema,
      })
      .describe('What is to be solved.'),
    signature: hex.describe('The signature of the parameters, in hex.'),
  })
  .describe("A challenge, as altcha's widget takes it.");

const solutionRequest = z.strictObject({
  payload: z
    .string()
    .min(1)
    .max(MAX_PAYLOAD_CHARS)
    .meta({
      description: "The text that altcha's widget gives: the challenge and its solution, in base64.",
      examples: ['eyJjaGFsbGVuZ2UiOnt9LCJzb2x1dGlvbiI6e319'],
    }),
});

const payloadSchema = z.object({
  challenge: challengeReply,
  solution: z.object({ counter: z.int().min(0).max(0xffff_ffff), derivedKey: hex }),
});

const ticketReply = z
  .strictObject({
    ticket: z
      .string()
      .meta({ description: 'The ticket, for an order.', examples: ['eyJhbGciOiJIUzI1NiJ9.e30.c2ln'] }),
    expiresAt: time.describe('Until then the ticket is good.'),
  })
  .describe('The ticket for the challenge.');

/** Keys of our own, each for one thing alone, from a secret that all API processes have. */
function keysOf(secret: string) {
  const derive = (purpose: string) => Buffer.from(hkdfSync('sha256', secret, '', `holdfast ${purpose}`, 32));
  const ticket = derive('ticket');
  return {
    challenge: derive('challenge').toString('hex'),
    ticket: createSecretKey(ticket),
    ticketKeyId: `${OWN_KEY_PREFIX}${hash('sha256', ticket, 'hex').slice(0, 12)}`,
  };
}

type Keys = ReturnType<typeof keysOf>;
type Solved = { kind: 'solved'; about: About; keys: Keys } | { kind: 'refused'; fault: ChallengeFault };

export type Verification = ReturnType<typeof createVerification>;

/**
 * @param secrets the current one and, while secrets are rotated, the previous one, which is still accepted
 * @param audience for whom tickets are
 */
export function createVerification(secrets: readonly string[], audience: string) {
  const all = secrets.map(keysOf);
  const [current] = all;
  if (!current) throw new Error('verification needs a secret');
  const currentSecret = current.challenge;
  /** Users whose answers are checked now. */
  const checking = new Set<string>();

  function challenge(about: About, costKib: number, expiresAtMs: number) {
    return createChallenge({
      algorithm: ALGORITHM,
      deriveKey,
      cost: costKib,
      memoryCost: BLOCK_SIZE,
      parallelism: 1,
      keyPrefix: PREFIX,
      expiresAt: Math.floor(expiresAtMs / 1_000),
      data: { ...about },
      hmacSignatureSecret: currentSecret,
    });
  }

  /** One try of the work, after all that costs nothing. */
  async function check(payload: string, userId: string, saleId: string): Promise<Solved> {
    const read = readPayload(payload);
    if (!read) return { kind: 'refused', fault: 'malformed' };
    const { challenge: given, solution } = read;
    const about = given.parameters.data;
    if (about.user !== digestOf(userId)) return { kind: 'refused', fault: 'other_user' };
    if (about.sale !== saleId) return { kind: 'refused', fault: 'other_sale' };
    if (!solution.derivedKey.startsWith(given.parameters.keyPrefix))
      return { kind: 'refused', fault: 'unsolved' };
    for (const keys of all) {
      const found = await verifySolution({
        challenge: given,
        solution,
        deriveKey,
        hmacSignatureSecret: keys.challenge,
      });
      if (found.expired) return { kind: 'refused', fault: 'expired' };
      if (found.verified) return { kind: 'solved', about, keys };
      if (found.invalidSolution === true) return { kind: 'refused', fault: 'unsolved' };
    }
    return { kind: 'refused', fault: 'forged' };
  }

  return {
    challenge,
    check,

    /** @throws Problem while another answer of this user is at work */
    async alone<T>(userId: string, work: () => Promise<T>): Promise<T> {
      if (checking.has(userId)) throw overloaded(BUSY_RETRY_SECONDS);
      checking.add(userId);
      try {
        return await work();
      } finally {
        checking.delete(userId);
      }
    },

    /** The same for the same challenge, byte by byte. */
    ticketOf({ about, keys }: Extract<Solved, { kind: 'solved' }>, userId: string): Promise<string> {
      const { id, sale, begins, ends } = about;
      return new SignJWT({ iss: OWN_ISSUER, aud: audience, sub: userId, sale, jti: id, single_use: true })
        .setProtectedHeader({ alg: 'HS256', typ: TICKET_TYPE, kid: keys.ticketKeyId })
        .setIssuedAt(begins)
        .setExpirationTime(ends)
        .sign(keys.ticket);
    },

    /** The key of a ticket of ours; undefined: we have none of this name. */
    ticketKey: (keyId: string): KeyObject | undefined =>
      all.find(({ ticketKeyId }) => ticketKeyId === keyId)?.ticket,
  };
}

function digestOf(userId: string): string {
  return hash('sha256', userId, 'base64url');
}

function readPayload(payload: string): z.infer<typeof payloadSchema> | undefined {
  try {
    return payloadSchema.safeParse(JSON.parse(Buffer.from(payload, 'base64').toString())).data;
  } catch {
    return undefined;
  }
}

export interface Verifier extends SaleShop {
  verification: Verification;
}

const ofVerifier = shopCall<Verifier>();

/** What both calls refuse while there is nothing to work for. */
const WITHOUT_RULE = {
  unasked: 'verification_not_asked',
  closed: 'sale_closed',
} as const;
const NOT_YET = ['sale_unavailable', 'sale_not_open_yet'] as const;

export const verificationCalls = {
  'POST /v1/sales/:saleId/challenge': ofVerifier({
    id: 'createChallenge',
    does: 'A challenge for the machine of a shopper, whose solution is worth a ticket',
    who: 'shopper',
    lane: 'others',
    params: ofSale,
    replies: { 200: challengeReply },
    refuses: WITHOUT_RULE,
    throws: NOT_YET,
    async answer(shop, { params: { saleId }, ctx }) {
      const rule = await readRule(shop, saleId);
      if (!('nowMs' in rule)) return rule;
      const { costKib, opensAtMs, nowMs } = rule;
      const ticketEndsAtMs = Math.max(nowMs, opensAtMs) + TICKET_LIFE_MS;
      const about = {
        id: ulid(),
        user: digestOf(ctx.state.userId),
        sale: saleId,
        begins: Math.floor(nowMs / 1_000),
        ends: Math.floor(ticketEndsAtMs / 1_000),
      };
      const challenge = await shop.verification.challenge(about, costKib, nowMs + CHALLENGE_LIFE_MS);
      return reply(challengeReply.parse(challenge));
    },
  }),
  'POST /v1/sales/:saleId/ticket': ofVerifier({
    id: 'createTicket',
    does: 'The ticket for a challenge that was solved; the same for a repeat',
    who: 'shopper',
    lane: 'verifications',
    watch: oneAtATime,
    params: ofSale,
    body: { schema: solutionRequest },
    replies: { 200: ticketReply },
    refuses: WITHOUT_RULE,
    throws: [...NOT_YET, 'challenge_invalid'],
    async answer(shop, { params: { saleId }, body: { payload }, actor }) {
      const rule = await readRule(shop, saleId);
      if (!('nowMs' in rule)) return rule;
      const solved = await shop.verification.check(payload, actor, saleId);
      if (solved.kind === 'refused') {
        const { fault } = solved;
        const detail = `The answer to the challenge is refused: ${fault.replaceAll('_', ' ')}.`;
        throw new Problem('challenge_invalid', { detail, extra: { reason: fault } });
      }
      const expiresAt = new Date(solved.about.ends * 1_000).toISOString();
      return reply({ ticket: await shop.verification.ticketOf(solved, actor), expiresAt });
    },
  }),
} satisfies ShopCalls<Verifier>;

/** Before the lane: a check is work of ours, and one user's answers must not fill all places. */
async function oneAtATime(
  { verification }: Verifier,
  { state }: CallContext,
  next: () => Promise<unknown>,
): Promise<unknown> {
  return verification.alone(state.userId, next);
}

type Rule = NonNullable<Sale['verification']> & Pick<Sale, 'opensAtMs'> & { nowMs: number };

/** As the sale was within the last second. @throws Problem where its time has not come */
async function readRule(
  { saleViews }: Verifier,
  saleId: string,
): Promise<Rule | { kind: keyof typeof WITHOUT_RULE }> {
  const { verification, opensAtMs, closesAtMs } = await saleViews.view(saleId);
  const nowMs = Date.now();
  if (!verification) return { kind: 'unasked' };
  if (nowMs >= closesAtMs) return { kind: 'closed' };
  const waitMs = opensAtMs - verification.aheadMs - nowMs;
  if (waitMs > 0)
    throw new Problem('sale_not_open_yet', {
      extra: { opensAt: new Date(opensAtMs).toISOString() },
      retryAfterSeconds: Math.ceil(waitMs / 1_000),
    });
  return { ...verification, opensAtMs, nowMs };
}
