/**
 * Removes what is kept no longer, in bounded batches: a sale's data in Redis, contacts of ended orders with
 * their signed orders, raw notices, parked work that has been settled, and deliveries that have ended.
 */

import type { Batch } from '../stores/mysql/upkeep/retention.ts';
import type { Stores } from '../stores/open.ts';
import type { Step } from './report.ts';

const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;
/** Batches of each kind in one run: what a day brings is cleared within minutes. */
const BATCHES_MAX = 10;
const NOTICES_WALK = 'notices';

/** For how long what is kept. */
interface KeepConfig {
  KEEP_SALE_HOURS: number;
  KEEP_CONTACT_DAYS: number;
  KEEP_NOTICE_DAYS: number;
}

export interface RetentionDeps extends Stores {
  keep: KeepConfig;
}

export function createRetentionStep(deps: RetentionDeps): Step {
  const { retention, forgetting, holds, places, keep, log } = deps;

  /** @returns how many things all batches cleared */
  async function inBatches(signal: AbortSignal, clear: () => Promise<Batch>): Promise<number> {
    let cleared = 0;
    for (let batches = 0; batches < BATCHES_MAX && !signal.aborted; batches += 1) {
      const batch = await clear();
      cleared += batch.cleared;
      if (!batch.isFull) break;
    }
    return cleared;
  }

  async function clearNotices(): Promise<Batch> {
    const after = Number((await places.read(NOTICES_WALK)) ?? 0);
    const batch = await retention.clearNotices(after, keep.KEEP_NOTICE_DAYS * DAY_MS);
    if (batch.cleared > 0) await places.save(NOTICES_WALK, String(batch.last));
    return batch;
  }

  async function forgetSales(signal: AbortSignal): Promise<number> {
    let forgotten = 0;
    for (const shard of await holds.listShards()) {
      if (signal.aborted) break;
      if (!(await retention.isRedisDone(shard.saleId, keep.KEEP_SALE_HOURS * HOUR_MS))) continue;
      // Noted first, or what goes now would be made again.
      await retention.noteRedisCleaned(shard.saleId);
      const outcome = await forgetting.forgetSale(shard);
      if (outcome === 'forgotten') forgotten += 1;
      log.info({ saleId: shard.saleId, outcome }, 'a sale is long over: its data in Redis are not kept');
    }
    return forgotten;
  }

  return async (signal) => {
    // The most personal data go first.
    const contacts = await inBatches(signal, () => retention.clearContacts(keep.KEEP_CONTACT_DAYS * DAY_MS));
    const notices = await inBatches(signal, clearNotices);
    const parked = await inBatches(signal, () => retention.deleteParked(keep.KEEP_NOTICE_DAYS * DAY_MS));
    const deliveries = await inBatches(signal, () =>
      retention.deleteDeliveries(keep.KEEP_NOTICE_DAYS * DAY_MS),
    );
    const sales = await forgetSales(signal);
    const looked = contacts + notices + parked + deliveries + sales;
    if (looked > 0)
      log.info({ contacts, notices, parked, deliveries, sales }, 'cleared what is kept no longer');
    return { looked, repaired: 0, parked: 0 };
  };
}
