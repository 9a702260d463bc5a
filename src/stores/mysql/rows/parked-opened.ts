/** The event that something waits for an operator. */

import { parseOrderNo } from '../../../domain/order.ts';
import type { PoolConnection } from '../connection.ts';
import { PARKED_CAUSES, type ParkedFacts, type ParkedKind } from './parked-facts.ts';
import { recordShopEvent } from './shop-events.ts';

interface Opened {
  kind: ParkedKind;
  reference: string;
  facts: ParkedFacts;
}

/** Records the event, with the entry as it is parked now, and of its reason no more than the cause says. */
export async function recordParkedOpened(
  connection: PoolConnection,
  parkedId: number,
  { kind, reference, facts: { cause, inputs } }: Opened,
): Promise<void> {
  const orderNo = kind === 'order' ? reference : asText(inputs['orderNo']);
  // A payment may name anything as its order. A number of Holdfast's names its sale.
  const parts = orderNo === undefined ? undefined : parseOrderNo(orderNo);
  await recordShopEvent(connection, {
    type: 'parked.opened',
    saleId: parts?.saleId ?? asText(inputs['saleId']) ?? null,
    subject: String(parkedId),
    data: {
      parked: {
        parkedId,
        kind,
        reference,
        cause,
        reason: PARKED_CAUSES[cause],
        inputs,
        ...(parts && { orderNo }),
      },
    },
  });
}

function asText(input: ParkedFacts['inputs'][string] | undefined): string | undefined {
  return typeof input === 'string' ? input : undefined;
}
