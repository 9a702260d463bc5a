/** Verifies the provider's callbacks and translates them to Holdfast's notices. */

import { type Webhook, WebhookVerificationError } from 'standardwebhooks';
import type { PaymentNotice, ReversalStatus } from '../../domain/payment.ts';
import { isForeign } from '../deployment.ts';
import { InvalidSignatureError, MalformedNoticeError } from '../provider.ts';
import { MONEY_TYPES, moneyNoticeSchema, noticeEnvelopeSchema, type MoneyNotice } from './notice-wire.ts';
import { toPayment, toReversal } from './translate.ts';

/** A notice is authentic when any secret verifies it: the provider changes its secret at its own time. */
export function verifySignature(
  webhooks: readonly Webhook[],
  rawBody: string,
  headers: Readonly<Record<string, string>>,
): void {
  let refusal: WebhookVerificationError | undefined;
  for (const webhook of webhooks) {
    try {
      // Parsing is left to `parseNotice`, so that an authentic but malformed notice does not count as a
      // forgery.
      webhook.verify(rawBody, headers, { jsonParse: false });
      return;
    } catch (error) {
      if (!(error instanceof WebhookVerificationError)) throw error;
      refusal = error;
    }
  }
  throw new InvalidSignatureError('the notice is not signed by the provider, or is stale', {
    cause: refusal,
  });
}

/** A notice about a payment of another deployment than `deployment` is ignored. */
export function parseNotice(rawBody: string, eventId: string, deployment: string): PaymentNotice {
  const json = parseJson(rawBody);
  const envelope = noticeEnvelopeSchema.safeParse(json);
  if (!envelope.success) throw new MalformedNoticeError('the notice has no type', { cause: envelope.error });
  const { type } = envelope.data;
  if (!MONEY_TYPES.includes(type)) return { kind: 'ignored', eventId, type };

  const parsed = moneyNoticeSchema.safeParse(json);
  if (!parsed.success) {
    throw new MalformedNoticeError(`the notice is no known ${type}`, { cause: parsed.error });
  }
  if (isForeign(parsed.data.data.deployment, deployment)) return { kind: 'ignored', eventId, type };
  return toNotice(parsed.data, eventId);
}

function toNotice(notice: MoneyNotice, eventId: string): PaymentNotice {
  switch (notice.type) {
    case 'payment.succeeded':
      return {
        kind: 'payment_succeeded',
        eventId,
        payment: toPayment({ ...notice.data, id: notice.data.payment_id }),
      };
    case 'payment.failed':
      return { kind: 'payment_failed', eventId, orderNo: notice.data.reference };
    case 'refund.updated': {
      const { refund_id, payment_id, amount, currency, status, fee } = notice.data;
      return {
        kind: 'payment_reversed',
        eventId,
        reversal: toReversal({ kind: 'refund', id: refund_id, payment_id, amount, currency, status, fee }),
      };
    }
    case 'dispute.opened':
      return toDisputeNotice(notice.data, eventId, 'pending');
    case 'dispute.closed':
      return toDisputeNotice(notice.data, eventId, notice.data.won ? 'failed' : 'succeeded');
    default:
      return notice satisfies never;
  }
}

function toDisputeNotice(
  data: Extract<MoneyNotice, { type: 'dispute.opened' }>['data'],
  eventId: string,
  status: ReversalStatus,
): PaymentNotice {
  const { dispute_id: id, payment_id, amount, currency, fee } = data;
  const reversal = toReversal({ kind: 'dispute', id, payment_id, amount, currency, status, fee });
  return { kind: 'payment_reversed', eventId, reversal };
}

function parseJson(rawBody: string): unknown {
  try {
    return JSON.parse(rawBody);
  } catch (error) {
    throw new MalformedNoticeError('the notice is not JSON', { cause: error });
  }
}
