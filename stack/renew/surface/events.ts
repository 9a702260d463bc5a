/** The events that a shop's systems get: types, an example of each form, and how a pushed one is signed. */

import { EVENT_TYPES, type OrderChange } from '../../../src/events/event.ts';
import type { EventRow } from '../../../src/events/events.sql.ts';
import { readEvents } from '../../../src/events/feed.ts';
import type { Order } from '../../../src/orders/content.ts';
import type { OrderState } from '../../../src/orders/order.ts';
import { PARKED_CAUSES, PARKED_KINDS } from '../../../src/parked/parked.sql.ts';
import { signMessage } from '../../../src/push/deliverer.ts';
import { snapshotSale } from '../../../src/sales/sale.ts';
import type { Stores } from '../../../src/stores/open.ts';
import { buildParts } from './answering-parts.ts';

const AT_MS = Date.UTC(2026, 10, 21, 10);
const HOUR_MS = 60 * 60 * 1000;

const order: Order = {
  orderNo: 'demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG',
  saleId: 'demo',
  userId: 'ada',
  items: [{ sku: 'lamp', quantity: 2, unitPrice: 4_900 }],
  charges: [{ code: 'shipping', name: 'Shipping', amount: 490 }],
  total: 10_290,
  currency: 'EUR',
  reference: 'shop-7',
  metadata: { campaign: 'winter' },
  idempotencyKey: 'key',
  reservedAtMs: AT_MS,
  paymentWindowMs: HOUR_MS / 2,
  ip: '192.0.2.1',
  userAgent: 'test',
};

const stored: OrderState = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };
const paid: OrderState = { status: 'paid', version: 2, payment: 'applied', reason: null };
/** One of each type. */
const CHANGES: OrderChange[] = [
  { before: null, state: stored },
  { before: stored, state: { ...stored, version: 2, reason: 'shopper_request' } },
  { before: stored, state: paid },
  { before: paid, state: { ...paid, version: 3, payment: 'refunded', refunded: 10_290 } },
  { before: stored, state: { ...stored, status: 'cancelled', version: 2, reason: 'payment_timeout' } },
  { before: null, state: { ...stored, status: 'failed', reason: 'unknown_sku' } },
];

export async function showEvents() {
  const rows = CHANGES.map(({ before, state }, i): EventRow => ({
    kind: 'order',
    sequence: i + 1,
    orderNo: order.orderNo,
    occurredAt: new Date(AT_MS),
    before,
    state,
  }));
  rows.push({
    kind: 'shop',
    sequence: rows.length + 1,
    type: 'sale.opened',
    saleId: 'demo',
    data: { sale: 'as below' },
    bytes: 20,
    occurredAt: new Date(AT_MS),
  });
  const stores = buildParts<Stores>(uncalled, {
    eventRows: buildParts<Stores['eventRows']>(uncalled, {
      readLastSequence: async () => rows.length,
      list: async () => ({ rows, readTo: rows.length }),
      readOrders: async () =>
        new Map([[order.orderNo, { order, state: stored, mayRun: false, isEnding: false }]]),
      listStates: async () => [],
    }),
  });
  return {
    types: EVENT_TYPES,
    feed: await readEvents(stores, { after: 0, limit: 100, filter: {} }),
    sales: ['open', 'draft', 'archived', 'closed'].map(showSale),
    parked: { kinds: PARKED_KINDS, causes: PARKED_CAUSES },
    push: signMessage('shop.7', '{"id":"shop.7"}', ['whsec_aG9sZGZhc3Q='], new Date(AT_MS)),
  };
}

function uncalled(): never {
  throw new Error('the feed reads the rows of events alone');
}

function showSale(form: string): unknown {
  return snapshotSale(
    {
      sale: {
        saleId: 'demo',
        name: 'Winter',
        currency: 'EUR',
        opensAtMs: AT_MS,
        closesAtMs: AT_MS + HOUR_MS,
        paused: false,
        paymentWindowMs: HOUR_MS / 2,
        refundRestoresLimit: true,
        limitPerUser: 4,
        maxUnpaidHolds: null,
        addressPurchasesPerMinute: null,
        ticketRequired: false,
        reference: 'shop-7',
        metadata: { campaign: 'winter' },
        skus: [
          {
            sku: 'lamp',
            name: 'Lamp',
            unitPrice: 4_900,
            total: 10,
            limitPerUser: 2,
            reference: 'article-7',
            metadata: { colour: 'red' },
          },
        ],
      },
      isDraft: form === 'draft',
      isArchived: form === 'archived',
      version: 3,
      nowMs: form === 'closed' ? AT_MS + 2 * HOUR_MS : AT_MS + 1,
    },
    [{ sku: 'lamp', total: 10, available: 7, held: 2, sold: 1 }],
  );
}
