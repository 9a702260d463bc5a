/**
 * Signs and verifies the essentials of an order that a payment session carries: enough to restore an order
 * that every store has lost. A signed order is a compact JWS, so that provider staff who edit metadata cannot
 * invent an order. The network address and the user agent are not part of it: they stay in Holdfast.
 */

import { createSecretKey } from 'node:crypto';
import { CompactSign, compactVerify, errors } from 'jose';
import { z } from 'zod';
import { signedContent, type Order } from '../domain/content.ts';
import { parseOrderNo } from '../domain/order.ts';

/**
 * A full cart of the longest SKUs for the longest user id is about 8 KB in base64, where JSON escapes every
 * byte of them. The rest is room for what else a shop may have an order carry: a reference of 128 characters,
 * a KiB of metadata and ten charges. Stripe takes up to 25,000 characters in its 50 values.
 */
export const MAX_SIGNED_ORDER_CHARS = 16_384;

const TYPE = 'holdfast-order';

const essentialsSchema = signedContent.schema.transform((essentials, ctx): Order => {
  const parts = parseOrderNo(essentials.orderNo);
  if (parts) return { ...essentials, saleId: parts.saleId };
  ctx.addIssue('names no order');
  return z.NEVER;
});

export type OrderSigner = ReturnType<typeof createOrderSigner>;

/**
 * @param secrets the current one and, while secrets are rotated, the previous one, which is still accepted
 */
export function createOrderSigner(secrets: readonly string[]) {
  const keys = secrets.map((secret) => createSecretKey(Buffer.from(secret)));
  const [current] = keys;
  if (!current) throw new Error('signing needs a secret');

  return {
    sign(order: Order): Promise<string> {
      return new CompactSign(Buffer.from(signedContent.write(order)))
        .setProtectedHeader({ alg: 'HS256', typ: TYPE })
        .sign(current);
    },

    /** Undefined when it was not signed with one of the secrets. */
    async verify(signed: string): Promise<Order | undefined> {
      for (const key of keys) {
        try {
          const { payload, protectedHeader } = await compactVerify(signed, key, { algorithms: ['HS256'] });
          // A token of another kind may be signed with the same secret, and is no order.
          if (protectedHeader.typ !== TYPE) return undefined;
          return essentialsSchema.safeParse(JSON.parse(Buffer.from(payload).toString())).data;
        } catch (error) {
          if (!(error instanceof errors.JOSEError)) throw error;
        }
      }
      return undefined;
    },
  };
}
