/** Follows the feed of events from where it has come to: Holdfast keeps the position under this name. */

import { createClient, explain, isOk } from '../holdfast.js';
import { catalogue } from '../settings.js';
import { EVENT_TYPES, handle } from './fulfil.js';

const CONSUMER = 'back-office';
const call = createClient('back-office', 'events:read events:write');
const query = new URLSearchParams({
  consumer: CONSUMER,
  wait: '25',
  type: EVENT_TYPES.join(','),
  saleId: catalogue.sale.saleId,
});

/** Does not end. Whatever happens, no event is lost: what was not committed comes again. */
export async function followFeed() {
  for (let position = -1; ;) {
    try {
      position = await takePage(position);
    } catch (error) {
      console.error(error);
    }
  }
}

/**
 * @param {number} position
 * @returns {Promise<number>} the next position
 */
async function takePage(position) {
  const page = await call('GET', `/v1/admin/events?${query}`);
  if (!isOk(page)) throw new Error(explain(page));
  const { events, next } = page.body;
  for (const event of events) handle(event, 'feed');
  if (next === position) return position;
  // Only now, for all of it is on the disk.
  const committed = await call('PUT', `/v1/admin/events/consumers/${CONSUMER}`, { body: { position: next } });
  if (!isOk(committed) && committed.body.code !== 'position_behind') throw new Error(explain(committed));
  return next;
}
