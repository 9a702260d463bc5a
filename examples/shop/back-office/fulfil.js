/** What the back office does about an event. Events come twice, by the feed and by push: each counts once. */

import { catalogue } from '../settings.js';
import { isKnown, write } from './book.js';

/**
 * Those that concern it, of all types of events.
 * @type {import('@holdfast/client/admin').EventType[]}
 */
export const EVENT_TYPES = ['order.paid', 'order.cancelled', 'order.payment_changed'];

/**
 * Never waits: so the feed and the receiver, which share this process, cannot both find an event unknown.
 * @param {any} event
 * @param {'feed' | 'push'} by
 */
export function handle(event, by) {
  const what = `${event.type} of ${event.orderNo}`;
  if (isKnown(event.id)) {
    console.log(`${by}: ${what} is done already`);
    return;
  }
  const { orderNo, reference, userId } = event.data.order;
  // With another system behind it, such as a carrier's, event.id would be the idempotency key there.
  const work = decide(event);
  write({ eventId: event.id, by, at: new Date().toISOString(), orderNo, reference, userId, ...work });
  console.log(`${by}: ${what}: ${work.task}`);
}

/** @param {any} event */
function decide({ type, data: { order } }) {
  switch (type) {
    case 'order.paid':
      return { task: 'ship', parcel: order.items.map(pick), paid: order.total };
    case 'order.payment_changed':
      return order.refunded > 0 ? { task: 'credit', refunded: order.refunded } : { task: 'nothing' };
    default:
      return { task: 'nothing' };
  }
}

/** @param {{ sku: string, quantity: number }} item */
function pick({ sku, quantity }) {
  const product = catalogue.products.find((each) => each.sku === sku);
  return { sku, quantity, shelf: product?.metadata['shelf'] ?? 'unknown' };
}
