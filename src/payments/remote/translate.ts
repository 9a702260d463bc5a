/** Translates the provider's payments and reversals to Holdfast's types. */

import type { ProviderPayment, Reversal, ReversalStatus } from '../../domain/payment.ts';

export function toPayment(wire: {
  id: string;
  reference: string;
  amount: number;
  currency: string;
  signed_order: string | null;
  fee?: number | null;
}): ProviderPayment {
  return {
    providerPaymentId: wire.id,
    orderNo: wire.reference,
    amount: wire.amount,
    currency: wire.currency,
    signedOrder: wire.signed_order,
    ...toFee(wire.fee),
  };
}

export function toReversal(wire: {
  kind: Reversal['kind'];
  id: string;
  payment_id: string;
  amount: number;
  currency: string;
  status: ReversalStatus;
  fee?: number | null;
}): Reversal {
  return {
    kind: wire.kind,
    providerReversalId: wire.id,
    providerPaymentId: wire.payment_id,
    amount: wire.amount,
    currency: wire.currency,
    status: wire.status,
    ...toFee(wire.fee),
  };
}

function toFee(fee: number | null | undefined): { fee?: number } {
  return typeof fee === 'number' ? { fee } : {};
}
