/**
 * Builds the parameters of a Checkout Session for one order. All of them come from the request, so that a
 * repeated call is the same, byte for byte.
 */

import type { Stripe } from 'stripe';
import { SessionRefusedError, type SessionRequest } from '../provider.ts';
import { writeMetadata } from './metadata.ts';

/** Stripe's shortest session. */
const LEAST_SESSION_MS = 30 * 60 * 1000;
/**
 * How late a call may arrive, after an outage, and still be accepted. Stripe counts the shortest session by
 * its own clock when the call arrives, and a repeat must not change the time. A payment window that ends
 * earlier is ended by voiding the session at its deadline.
 */
const ARRIVAL_SLACK_MS = 10 * 60 * 1000;

/** Currencies whose amounts Stripe counts in another unit than ISO 4217 does. */
const OTHER_UNIT: readonly string[] = ['ISK', 'MGA', 'UGX'];
/** Currencies with three decimals, of which Stripe requires the last to be 0. */
const THREE_DECIMALS: readonly string[] = ['BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND'];

/** @throws SessionRefusedError when Stripe would collect another amount than the order's */
export function buildSessionParams(
  request: SessionRequest,
  { returnUrl, deployment }: { returnUrl: string; deployment: string },
): Stripe.Checkout.SessionCreateParams {
  const { orderNo, amount, currency } = request;
  refuseOddAmounts(amount, currency);
  const metadata = writeMetadata({ ...request, deployment });
  const back = new URL(returnUrl);
  back.searchParams.set('orderNo', orderNo);
  return {
    mode: 'payment',
    // Other methods may settle days later, long after the stock was sold to another shopper.
    allowed_payment_method_types: ['card'],
    // Adaptive pricing would let the shopper pay in another currency.
    adaptive_pricing: { enabled: false },
    line_items: [
      {
        quantity: 1,
        price_data: {
          currency: currency.toLowerCase(),
          unit_amount: amount,
          product_data: { name: `Order ${orderNo}` },
        },
      },
    ],
    client_reference_id: orderNo,
    metadata,
    // The payment has metadata of its own, by which the notice of a failed attempt and the audit know the
    // order.
    payment_intent_data: { metadata },
    expires_at: Math.floor(
      Math.max(request.expiresAtMs, request.createdAtMs + LEAST_SESSION_MS + ARRIVAL_SLACK_MS) / 1000,
    ),
    // Both lead to the same page, because the order and not the browser says whether it is paid.
    success_url: back.href,
    cancel_url: back.href,
  };
}

function refuseOddAmounts(amount: number, currency: string): void {
  if (OTHER_UNIT.includes(currency)) {
    throw new SessionRefusedError(
      `Stripe does not count ${currency} in the minor units of ISO 4217: not supported`,
    );
  }
  if (THREE_DECIMALS.includes(currency) && amount % 10 !== 0) {
    throw new SessionRefusedError(
      `Stripe takes ${currency} in steps of ten minor units, and ${amount} is none`,
    );
  }
}
