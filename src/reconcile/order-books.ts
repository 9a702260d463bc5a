/**
 * Finds orders in MySQL that contradict themselves: a row that is not what its events say, or whose stock was
 * booked otherwise. No rule can know which of them is right, so each is parked.
 */

import type { Stores } from '../stores/open.ts';
import type { Step } from './report.ts';
import { inOneRun, MANY_PAGES_MAX } from './walk.ts';

/** Orders checked by one snapshot, in some dozens of milliseconds. */
const PAGE_SIZE = 500;
/** Parked ones that are looked at again in one run. */
const PARKED_MAX = 100;
const WALK = 'order books';

export function createOrderBooksStep({ orderBooks, places, log }: Stores): Step {
  return async (signal) => {
    const report = { looked: 0, repaired: 0, parked: 0 };
    await orderBooks.unparkWhole(PARKED_MAX);
    let after = await places.read(WALK);
    const mayGoOn = inOneRun(MANY_PAGES_MAX, signal);
    while (mayGoOn()) {
      const { checked, last, broken } = await orderBooks.checkAfter(after ?? '', PAGE_SIZE);
      for (const order of broken) log.error(order, 'an order contradicts itself');
      await orderBooks.park(broken);
      report.looked += checked;
      report.parked += broken.length;
      after = last;
      await places.save(WALK, after);
      if (after === undefined) break;
    }
    return report;
  };
}
