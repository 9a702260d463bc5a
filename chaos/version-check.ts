/** Judges whether an order's answers ever went back to an older version. */

import type { Answer, Check, Span } from './history.ts';

/** An API finds a Redis that is back within this time. */
const REDIS_AWAY_MS = 5_000;

/**
 * Of two answers one after the other, the later is not older; what overlaps may be answered in any order. An
 * API that does not reach Redis answers from MySQL, and cannot project what it answers: until that is made up
 * for, the other API may give an older answer to a call that names no version.
 */
export const versionsNeverGoBack: Check = ({ answers, redisStruck }) =>
  [...groupByOrder(answers)].flatMap(([subject, ofOrder]) => {
    const byEnd = ofOrder.toSorted((a, b) => a.endMs - b.endMs);
    const byStart = ofOrder.toSorted((a, b) => a.startMs - b.startMs);
    let ended = 0;
    let newest: Answer | undefined;
    return byStart.flatMap((answer) => {
      for (let next = byEnd[ended]; next && next.endMs < answer.startMs; next = byEnd[ended]) {
        if (!newest || next.version > newest.version) newest = next;
        ended += 1;
      }
      if (!newest || answer.version >= newest.version) return [];
      if (!answer.isNamed && answer.api !== newest.api && isWithin(newest, redisStruck)) return [];
      const what = `version ${answer.version} after ${newest.version} (${newest.status})`;
      const how = `${answer.isNamed ? 'asked with its version' : 'asked without a version'}, ${answer.startMs - newest.endMs} ms later`;
      return [{ subject, detail: `${what}, ${how}, by ${answer.api} after ${newest.api}` }];
    });
  });

function isWithin({ startMs, endMs }: Span, spans: readonly Span[]): boolean {
  return spans.some((span) => startMs <= span.endMs + REDIS_AWAY_MS && endMs >= span.startMs);
}

export function groupByOrder<T extends { orderNo: string }>(all: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const one of all) {
    const group = groups.get(one.orderNo);
    if (group) group.push(one);
    else groups.set(one.orderNo, [one]);
  }
  return groups;
}
