/** The audit's rules about events: no change without its event, and none that a reader could miss. */

import type { AuditedNews } from '../stores/audit/sale-news-reads.ts';
import type { Rule } from './snapshot.ts';

/** Each change of an order (those from before the feed have 0) and of the sale has its place in the feed. */
export const changesAreInFeed: Rule = ({ saleId, mysql }) => [
  ...[...mysql.events].flatMap(([subject, events]) =>
    events
      .filter(({ sequence }) => sequence === null)
      .map(({ version, status }) => ({
        subject,
        detail: `version ${version} (${status}) is not in the feed`,
      })),
  ),
  ...(mysql.news ? findWithoutEvent(mysql.news) : []).map((detail) => ({ subject: saleId, detail })),
];

/** What became of the sale and has no event, or more than one. */
function findWithoutEvent({
  isNew,
  version,
  isArchived,
  soldOutCount,
  isMarked,
  events,
}: AuditedNews): string[] {
  const count = (type: string) => events.filter((event) => event.type === type).length;
  const marks = Object.entries(isMarked).flatMap(([mark, isDue]) => {
    const times = count(`sale.${mark}`);
    return times > 1 || (isDue && times === 0) ? [`sale.${mark} has ${times} events`] : [];
  });
  const soldOut = count('sale.sold_out');
  if (isNew && soldOut < soldOutCount) marks.push(`sold out ${soldOutCount} times, with ${soldOut} events`);

  const changed = events.flatMap((event) => (event.type === 'sale.changed' ? [event.version] : []));
  const distinct = new Set(changed);
  // An older sale may have changed without an event before its first one.
  const first = isNew ? 2 : Math.min(...changed);
  const dueVersions = Math.max(0, version - first + 1) - (isArchived ? 1 : 0);
  const versions = changed.filter((one) => one >= first && one <= version).length;
  if (changed.length > distinct.size) marks.push('a version has two events');
  if (versions < dueVersions) marks.push(`of ${dueVersions} changes ${versions} have an event`);
  return marks;
}

/** A reader of the feed meets the versions of each order in their order. */
export const eventsKeepOrder: Rule = ({ mysql }) =>
  [...mysql.events].flatMap(([subject, events]) => {
    const sequences = events.flatMap(({ sequence }) => (sequence === null ? [] : [sequence]));
    const isInOrder = sequences.every((sequence, i) => {
      const before = sequences[i - 1] ?? 0;
      return before === 0 || sequence > before;
    });
    return isInOrder ? [] : [{ subject, detail: `its versions have the sequences ${sequences.join(', ')}` }];
  });

/** The feed has each number from 1 to the last once, but those left out, and nothing stays out of it. */
export const feedIsWhole: Rule = ({ feed }) => {
  if (!feed) return [];
  const { last, numbered, leftOut, wrong, waiting } = feed;
  const found = (detail: string) => ({ subject: 'the feed', detail });
  return [
    ...(numbered + leftOut === last
      ? []
      : [found(`${numbered} events up to number ${last}, with ${leftOut} left out`)]),
    ...wrong.map((sequence) => found(`number ${sequence} is there twice, or beyond the last`)),
    ...waiting.map((event) => found(`${event} is not in it`)),
  ];
};

/** What is parked has an event. */
export const parkedHasEvent: Rule = ({ feed }) =>
  (feed?.withoutEvent ?? []).map((parkedId) => ({ subject: `parked ${parkedId}`, detail: 'has no event' }));
