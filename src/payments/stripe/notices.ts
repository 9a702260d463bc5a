/** Translates Stripe's events to notices. The caller has verified their signature. */

import { z } from 'zod';
import type { PaymentNotice, Reversal } from '../../domain/payment.ts';
import { MalformedNoticeError } from '../provider.ts';
import {
  isOfAnother,
  orderOf,
  reversedPaymentOf,
  sessionStateSchema,
  stripeIdSchema,
  toDispute,
  toRefund,
  toSessionPayment,
} from './objects.ts';

const eventSchema = z.object({
  id: stripeIdSchema,
  type: z.string().min(1),
  data: z.object({ object: z.unknown() }),
});
type Event = z.infer<typeof eventSchema>;

/**
 * A notice about a payment of another deployment than `deployment` is ignored. A refund made by provider
 * staff and a dispute name no deployment: they are kept, and never settle anything unless their payment is
 * known.
 * @throws MalformedNoticeError
 */
export function toNotice(event: unknown, deployment: string): PaymentNotice {
  try {
    const parsed = eventSchema.parse(event);
    return isOfAnother(parsed.data.object, deployment) ? ignored(parsed) : mapEvent(parsed);
  } catch (error) {
    if (!(error instanceof z.ZodError)) throw error;
    throw new MalformedNoticeError('the notice is no known event of Stripe', { cause: error });
  }
}

function mapEvent(event: Event): PaymentNotice {
  const { id: eventId, type } = event;
  const { object } = event.data;
  switch (type) {
    case 'checkout.session.completed':
    case 'checkout.session.async_payment_succeeded': {
      const isPaid = sessionStateSchema.parse(object).payment_status === 'paid';
      const payment = isPaid ? toSessionPayment(object) : undefined;
      return payment ? { kind: 'payment_succeeded', eventId, payment } : ignored(event);
    }
    case 'payment_intent.payment_failed': {
      const order = orderOf(object);
      return order ? { kind: 'payment_failed', eventId, orderNo: order.orderNo } : ignored(event);
    }
    case 'refund.created':
    case 'refund.updated':
    case 'refund.failed':
      return reversed(event, toRefund);
    case 'charge.dispute.created':
    case 'charge.dispute.updated':
    case 'charge.dispute.closed':
      return reversed(event, toDispute);
    default:
      return ignored(event);
  }
}

/** A refund made by provider staff carries no metadata, so the notice names only the payment and no order. */
function reversed(
  event: Event,
  toReversal: (object: unknown, providerPaymentId: string) => Reversal,
): PaymentNotice {
  const { object } = event.data;
  const providerPaymentId = reversedPaymentOf(object);
  if (providerPaymentId === undefined) return ignored(event);
  return { kind: 'payment_reversed', eventId: event.id, reversal: toReversal(object, providerPaymentId) };
}

function ignored({ id, type }: Event): PaymentNotice {
  return { kind: 'ignored', eventId: id, type };
}
