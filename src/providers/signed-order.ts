/**
 * What a payment carries of us through the provider: the signed order, from which an order that was lost is
 * restored, and the mark of the deployment, which distinguishes its payments from others on the same account.
 */

import { createSecretKey } from 'node:crypto';
import { CompactSign, compactVerify, errors } from 'jose';
import { z } from 'zod';
import type { Deployment } from '../deployment.ts';
import { signedContent, type Order } from '../orders/content.ts';
import { parseOrderNo } from '../orders/order.ts';

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

/** A mark is known once a store has given the deployment's id, which may be after the adapter was made. */
export type OwnMark = string | (() => string);

/** The id distinguishes deployments, the name is for people who look at the provider. */
export function markOf({ id, name }: Deployment): string {
  return `${name}.${id}`;
}

export function readOwnMark(own: OwnMark): string {
  return typeof own === 'string' ? own : own();
}

/**
 * @param marked the mark that a payment carries; null: it was made by hand. A mark that is a name alone is
 *   older than the ids.
 */
export function isForeign(marked: string | null, own: string): boolean {
  if (marked === null) return false;
  const [name, id] = marked.split('.');
  const [ownName, ownId] = own.split('.');
  return id === undefined ? name !== ownName : id !== ownId;
}
