/**
 * Reads the outbox of one sale shard page by page: new entries, and those that were read before and are not
 * acknowledged. Several pages may be under way at once.
 */

import type { Outbox, OutboxEntry } from '../stores/redis/outbox.ts';

/**
 * Entries per page, which is also one store batch. Twice as many gain nothing more in MySQL, and would only
 * wait in this process instead of in Redis (docs/decisions.md).
 */
export const PAGE_SIZE = 500;
/** How long one read waits for new entries, and so how long a shutdown may wait for the read. */
const BLOCK_MS = 1_000;
/** Entries that were left are read again after this pause, on top of the back-offs of Temporal and MySQL. */
const RETRY_PAUSE_MS = 250;
/** The cursor before the first entry. */
const FIRST = '0';

export interface OutboxPage {
  entries: readonly OutboxEntry[];
  /** To be called once the page was handled. Entries that were left are read again. */
  finish: (isLeft: boolean) => void;
}

export function createOutboxPages(outbox: Pick<Outbox, 'readPending' | 'readNew'>) {
  /** Of the pages under way. They are pending in Redis as well, and must not be handled twice at once. */
  const underWay = new Set<string>();
  /**
   * Unix time in ms at which to read unacknowledged entries from the first on; Infinity: there are none. The
   * relay begins with them: an earlier process of its name, or a relay that died, may have left some.
   */
  let roundDueMs = 0;
  /** Where the round of reading them goes on: after this entry. Undefined: there is no round. */
  let cursor: string | undefined;

  async function readRepeated(after: string): Promise<OutboxEntry[]> {
    const entries = await outbox.readPending(PAGE_SIZE, after);
    // A full page is followed by the next one.
    cursor = entries.length === PAGE_SIZE ? entries.at(-1)?.entryId : undefined;
    return entries.filter(({ entryId }) => !underWay.has(entryId));
  }

  async function readNew(): Promise<OutboxEntry[]> {
    try {
      return await outbox.readNew(PAGE_SIZE, Math.max(1, Math.min(BLOCK_MS, roundDueMs - Date.now())));
    } catch (error) {
      // Where the answer was lost on its way, its entries are pending under our name.
      roundDueMs = 0;
      throw error;
    }
  }

  return {
    /** Has all unacknowledged entries read again, as after entries were claimed from another relay. */
    restart(): void {
      roundDueMs = 0;
    },

    /** One read at a time. Earlier pages may still be under way. */
    async read(): Promise<OutboxPage> {
      if (cursor === undefined && Date.now() >= roundDueMs) [cursor, roundDueMs] = [FIRST, Infinity];
      const entries = cursor === undefined ? await readNew() : await readRepeated(cursor);
      for (const { entryId } of entries) underWay.add(entryId);
      return {
        entries,
        finish(isLeft) {
          for (const { entryId } of entries) underWay.delete(entryId);
          if (isLeft) roundDueMs = Math.min(roundDueMs, Date.now() + RETRY_PAUSE_MS);
        },
      };
    },
  };
}
