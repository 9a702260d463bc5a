/** An order's state where it crosses an edge. Apart from order.ts, which workflows import without a validator. */

import { z } from 'zod';
import { CLOSING_REASONS, FAILURE_REASONS, ORDER_STATUSES, PAYMENT_STATES } from './order.ts';

export const orderStateSchema = z.object({
  status: z.enum(ORDER_STATUSES),
  version: z.int(),
  payment: z.enum(PAYMENT_STATES),
  reason: z.enum([...CLOSING_REASONS, ...FAILURE_REASONS]).nullable(),
});
