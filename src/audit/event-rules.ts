/** The audit's rules about events: no change without its event, and none that a reader could miss. */

import type { Rule } from './snapshot.ts';

/** Each change of an order has its place in the feed; those from before the feed have 0. */
export const changesAreInFeed: Rule = ({ mysql }) =>
  [...mysql.events].flatMap(([subject, events]) =>
    events
      .filter(({ sequence }) => sequence === null)
      .map(({ version, status }) => ({
        subject,
        detail: `version ${version} (${status}) is not in the feed`,
      })),
  );

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

/** The feed has each number from 1 to the last once, and nothing stays out of it. */
export const feedIsWhole: Rule = ({ feed }) => {
  if (!feed) return [];
  const { last, numbered, wrong, waiting } = feed;
  const found = (detail: string) => ({ subject: 'the feed', detail });
  return [
    ...(numbered === last ? [] : [found(`${numbered} events up to number ${last}`)]),
    ...wrong.map((sequence) => found(`number ${sequence} is there twice, or beyond the last`)),
    ...waiting.map((event) => found(`${event} is not in it`)),
  ];
};

/** What is parked has an event. */
export const parkedHasEvent: Rule = ({ feed }) =>
  (feed?.withoutEvent ?? []).map((parkedId) => ({ subject: `parked ${parkedId}`, detail: 'has no event' }));
