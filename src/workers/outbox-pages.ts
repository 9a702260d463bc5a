/**
 * Reads the outbox of one sale shard page by page, new entries and repeated ones in turn, so that entries
 * that failed never keep new ones waiting.
 */

import type { Outbox, OutboxEntry } from '../stores/redis/outbox.ts';

/** Entries per page: two store batches. More would only wait in this process instead of in Redis. */
export const PAGE_SIZE = 200;
/** How long one read waits for new entries, and so how long a shutdown may wait for the read. */
const BLOCK_MS = 1_000;
/** Failed entries are repeated after this pause, on top of Temporal's back-off and MySQL's retries. */
const RETRY_PAUSE_MS = 250;

export interface OutboxPage {
  entries: readonly OutboxEntry[];
  /** To be called after the page was handled; otherwise all unacknowledged entries are read again at once. */
  finish: (isLeft: boolean) => void;
}

/** Where to read entries that were read before and are not acknowledged yet. */
interface PendingPosition {
  /** Unix time in ms at which to read them; Infinity: there are none. */
  dueMs: number;
  /** The next page begins after this entry. */
  afterId: string;
  /** Whether an earlier page of this round left entries unacknowledged. */
  isLeft: boolean;
}

/**
 * Where the relay begins too: an earlier process of its name, or a relay that died, may have left entries.
 */
const FROM_FIRST: PendingPosition = { dueMs: 0, afterId: '0', isLeft: false };

export function createOutboxPages(outbox: Pick<Outbox, 'readPending' | 'readNew'>) {
  let pending = FROM_FIRST;

  return {
    /** Has all unacknowledged entries read again, as after entries were claimed from another relay. */
    restart(): void {
      pending = FROM_FIRST;
    },

    async read(): Promise<OutboxPage> {
      const before = pending;
      // Set ahead of the read: when its answer is lost on the way, the entries are pending under our name.
      pending = FROM_FIRST;
      const isRepeat = Date.now() >= before.dueMs;
      const entries = isRepeat
        ? await outbox.readPending(PAGE_SIZE, before.afterId)
        : await outbox.readNew(PAGE_SIZE, Math.max(1, Math.min(BLOCK_MS, before.dueMs - Date.now())));
      return {
        entries,
        finish(isLeft) {
          pending = isRepeat ? afterRepeated(before, entries, isLeft) : afterNew(before, isLeft);
        },
      };
    },
  };
}

function afterNew(before: PendingPosition, isLeft: boolean): PendingPosition {
  return isLeft ? { ...before, dueMs: Math.min(before.dueMs, Date.now() + RETRY_PAUSE_MS) } : before;
}

/**
 * A full page is followed by the next one. After the last page, a new round begins once the pause is over.
 */
function afterRepeated(
  before: PendingPosition,
  entries: readonly OutboxEntry[],
  isLeftNow: boolean,
): PendingPosition {
  const isLeft = before.isLeft || isLeftNow;
  const last = entries.at(-1);
  if (last && entries.length === PAGE_SIZE) return { dueMs: 0, afterId: last.entryId, isLeft };
  return { ...FROM_FIRST, dueMs: isLeft ? Date.now() + RETRY_PAUSE_MS : Infinity };
}
