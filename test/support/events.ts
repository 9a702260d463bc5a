/** Events in tests: numbered at once, as the worker's dispatcher does within a second. */

import { readEvents, type FeedEvent } from '../../src/events/feed.ts';
import type { Stores } from '../../src/stores/open.ts';

/** Numbers all that is committed. */
export async function dispatchEvents({ eventRows }: Stores): Promise<void> {
  for (;;) {
    const outcome = await eventRows.numberEvents(1_000);
    if (outcome.kind === 'numbered' && outcome.events === 0) return;
  }
}

/** Everything of the feed after this event, after numbering what is committed. */
export async function readFeed(stores: Stores, after = 0): Promise<FeedEvent[]> {
  await dispatchEvents(stores);
  const events: FeedEvent[] = [];
  for (let next = after; ;) {
    const page = await readEvents(stores, { after: next, limit: 500, filter: {} });
    if (page.kind !== 'page') throw new Error(`the feed ends at ${page.last}`);
    events.push(...page.events);
    if (page.next === next) return events;
    next = page.next;
  }
}
