/**
 * Builds the parameters of a Checkout Session for one order. All of them come from the request, so that a
 * repeated call is the same, byte for byte.
 */

import type { Stripe } from 'stripe';
import { SessionRefusedError, type SessionRequest } from '../provider.ts';
import { writeMetadata } from './metadata.ts';
import { currencyFault, methodsFor, type StripePaymentMethod } from './methods.ts';
import { stripePriceFault } from './prices.ts';

/** Stripe's shortest session. */
const LEAST_SESSION_MS = 30 * 60 * 1000;
/**
 * How late a call may arrive, after an outage, and still be accepted. Stripe counts the shortest session by
 * its own clock when the call arrives, and a repeat must not change the time. A payment window that ends
 * earlier is ended by voiding the session at its deadline.
 */
const ARRIVAL_SLACK_MS = 10 * 60 * 1000;

interface SessionOptions {
  returnUrl: string;
  deployment: string;
  paymentMethods: readonly StripePaymentMethod[];
}

/** @throws SessionRefusedError when Stripe would refuse the amount, or collect another one */
export function buildSessionParams(
  request: SessionRequest,
  { returnUrl, deployment, paymentMethods }: SessionOptions,
): Stripe.Checkout.SessionCreateParams {
  const { orderNo, amount, currency, reference } = request;
  const fault = stripePriceFault(request) ?? currencyFault(paymentMethods, currency);
  if (fault !== undefined) throw new SessionRefusedError(fault);
  const metadata = writeMetadata({ ...request, deployment });
  const back = new URL(returnUrl);
  back.searchParams.set('orderNo', orderNo);
  return {
    mode: 'payment',
    allowed_payment_method_types: methodsFor(paymentMethods, currency),
    // Adaptive pricing would let the shopper pay in another currency.
    adaptive_pricing: { enabled: false },
    // One line of the whole total: a discount is a line too, and Stripe takes none below zero.
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
    client_reference_id: reference ?? orderNo,
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
