/** A sale as the shop sends it. */

import { z } from 'zod';
import {
  DEFAULT_PAYMENT_WINDOW_MS,
  MAX_SALE_TIME_MS,
  MIN_SALE_TIME_MS,
  SALE_ID_PATTERN,
} from '../../domain/limits.ts';
import { saleSchema, type Sale } from '../../domain/sale.ts';
import { parseInput } from '../http/problem.ts';

/** RFC 3339, with any offset. */
const time = z.iso
  .datetime({ offset: true })
  .transform((text) => Date.parse(text))
  .pipe(z.int().min(MIN_SALE_TIME_MS, 'not before 2000').max(MAX_SALE_TIME_MS, 'not after 2100'));

const { shape } = saleSchema;
const saleBody = z
  .strictObject({
    name: shape.name,
    currency: shape.currency,
    opensAt: time,
    closesAt: time,
    paymentWindowMs: shape.paymentWindowMs.default(DEFAULT_PAYMENT_WINDOW_MS),
    refundRestoresLimit: shape.refundRestoresLimit,
    limitPerUser: shape.limitPerUser,
    ticketRequired: shape.ticketRequired,
    draft: z.boolean().default(false),
    reference: shape.reference,
    metadata: shape.metadata,
    skus: shape.skus,
  })
  // One that is no time is a fault of its own, and later than nothing.
  .refine(({ opensAt, closesAt }) => !(opensAt >= closesAt), {
    message: 'a sale opens before it closes',
    path: ['closesAt'],
  });

const saleIdInput = z.object({ saleId: z.string().regex(SALE_ID_PATTERN) });

/** @throws Problem 400 that lists what is wrong */
export function parseSale(saleIdText: string | undefined, body: unknown): { sale: Sale; isDraft: boolean } {
  const { saleId } = parseInput(saleIdInput, { saleId: saleIdText });
  const { opensAt, closesAt, draft, ...rules } = parseInput(saleBody, body);
  // The pause has calls of its own; it is not part of what is sent here.
  return {
    sale: { saleId, ...rules, opensAtMs: opensAt, closesAtMs: closesAt, paused: false },
    isDraft: draft,
  };
}
