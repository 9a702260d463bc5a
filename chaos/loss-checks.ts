/**
 * Judges what a loss of Redis' data explains: which orders may
 * end as lost, and which refusals for want of stock were true.
 */

import type { Acceptance, Answer, Check, History, Loss } from './history.ts';

/** Of an order that no store has a record of. */
const WITHOUT_RECORD = 'lost_before_stored';
/** An order that was accepted and not stored may end so when Redis has lost data: no other order may. */
const LOST_REASONS: ReadonlySet<string | null> = new Set([WITHOUT_RECORD, 'lost_hold']);
/** An order that was accepted without an answer, and lost, was accepted within this time before the loss. */
const UNSTORED_MS = 5_000;

/** The orders that were said to be lost, each with the first answer that said so. */
export function findLost({ answers }: Pick<History, 'answers'>): Map<string, Answer> {
  const lost = answers.filter(({ reason }) => LOST_REASONS.has(reason));
  return new Map(lost.toSorted((a, b) => b.endMs - a.endMs).map((answer) => [answer.orderNo, answer]));
}

/** Those of them that no store has a record of. */
export function findUnrecorded(history: Pick<History, 'answers'>): Set<string> {
  const lost = [...findLost(history)].filter(([, { reason }]) => reason === WITHOUT_RECORD);
  return new Set(lost.map(([orderNo]) => orderNo));
}

/** The orders that each loss caught; an order is caught by the first loss after its acceptance. */
export function countLost(history: History): Map<Loss, number> {
  const acceptedAt = acceptances(history);
  const counts = new Map<Loss, number>();
  for (const [orderNo, answer] of findLost(history)) {
    const loss = catching(history.losses, acceptedAt.get(orderNo), answer);
    if (loss) counts.set(loss, (counts.get(loss) ?? 0) + 1);
  }
  return counts;
}

/** A loss struck between the order's acceptance and that answer, and the order was never stored as open. */
export const lossesAreHonest: Check = (history, { states }) => {
  const acceptedAt = acceptances(history);
  const stored = new Set(history.payable.map(({ orderNo }) => orderNo));
  for (const [orderNo, ofOrder] of states) {
    if ([...ofOrder.values()].some(({ status }) => status !== 'failed')) stored.add(orderNo);
  }
  return [...findLost(history)].flatMap(([subject, answer]) => {
    if (stored.has(subject)) return [{ subject, detail: `was stored, and then ${answer.reason}` }];
    const loss = catching(history.losses, acceptedAt.get(subject), answer);
    return loss
      ? []
      : [{ subject, detail: `${answer.reason}, and no loss had struck since it was accepted` }];
  });
};

/**
 * Sold out was true at some instant of the call. It was a violation where an earlier look found so many units
 * that all the holds taken since leave enough: only holds make units fewer, and the shop, while it lowers the
 * stock. Holds that were lost without a trace are not counted, so what was refused about a loss is not
 * judged.
 */
export const soldOutWasTrue: Check = (
  { soldOut, stock, lowered, losses, acceptances: accepted },
  { holds },
) => {
  const all = new Map([...accepted.map((acceptance) => [acceptance.orderNo, acceptance] as const), ...holds]);
  return soldOut.flatMap(({ sku, quantity, startMs, endMs }) => {
    const before = stock.findLast((sample) => sample.endMs <= startMs);
    const seen = before?.available.get(sku);
    if (before === undefined || seen === undefined) return [];
    const isNearLoss = (loss: Loss) => before.startMs <= loss.endMs && endMs >= loss.startMs - UNSTORED_MS;
    const isOfLowering = (span: History['lowered'][number]) =>
      span.sku === sku && before.startMs <= span.endMs && endMs >= span.startMs;
    if (losses.some(isNearLoss) || lowered.some(isOfLowering)) return [];
    const taken = [...all.values()]
      .filter(({ reservedAtMs }) => reservedAtMs >= before.startMs && reservedAtMs <= endMs)
      .flatMap(({ items }) => items)
      .reduce((sum, item) => sum + (item.sku === sku ? item.quantity : 0), 0);
    if (seen - taken < quantity) return [];
    const times = `seen at ${before.endMs}, refused from ${startMs} to ${endMs}`;
    return [
      { subject: sku, detail: `refused ${quantity} while at least ${seen - taken} were there; ${times}` },
    ];
  });
};

function acceptances(history: History): Map<string, Acceptance> {
  // A repeat is answered with the order as well: the first answer counts.
  const latestFirst = history.acceptances.toSorted((a, b) => b.startMs - a.startMs);
  return new Map(latestFirst.map((acceptance) => [acceptance.orderNo, acceptance]));
}

function catching(
  losses: readonly Loss[],
  accepted: Acceptance | undefined,
  answer: Answer,
): Loss | undefined {
  return losses.find(
    ({ startMs, endMs }) => endMs >= (accepted?.startMs ?? Infinity) && startMs <= answer.endMs,
  );
}
