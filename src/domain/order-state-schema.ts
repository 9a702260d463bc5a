/**
 * Validates an order's state where it is read from outside, such as a reply of Redis or of a workflow. This
 * is not part of order.ts because workflows import that file and must not bundle a validator.
 */

import { z } from 'zod';
import { CLOSING_REASONS, FAILURE_REASONS, ORDER_STATUSES, PAYMENT_STATES } from './order.ts';

export const orderStateSchema = z.object({
  status: z.enum(ORDER_STATUSES),
  version: z.int(),
  payment: z.enum(PAYMENT_STATES),
  reason: z.enum([...CLOSING_REASONS, ...FAILURE_REASONS]).nullable(),
  refunded: z.int().min(1).exactOptional(),
});
