/** Follows the feed of events from where it has come to: Holdfast keeps the position under this name. */

import { setTimeout as delay } from 'node:timers/promises';
import { openHoldfast } from '../holdfast.js';
import { catalogue } from '../settings.js';
import { EVENT_TYPES, handle } from './fulfil.js';

const PAUSE_MS = 1_000;
const feed = { consumer: 'back-office', types: EVENT_TYPES, saleId: catalogue.sale.saleId };
const holdfast = openHoldfast('back-office', 'events:read events:write');

/** Does not end. Whatever happens, no event is lost: what was not committed comes again. */
export async function followFeed() {
  for (;;) {
    try {
      // A page is committed once the next one is asked for: by then all of it is on the disk.
      for await (const events of holdfast.feed(feed)) for (const event of events) handle(event, 'feed');
    } catch (error) {
      console.error(error);
      await delay(PAUSE_MS);
    }
  }
}
