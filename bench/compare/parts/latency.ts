/** The part `latency` of the comparison: how long an order takes through all of Holdfast at a steady pace. */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { selectRows } from '../../../src/mysql/connection.ts';
import { waitUntil } from '../../../stack/processes/wait.ts';
import { withBenchCheckout, type BenchCheckout } from '../../checkout.ts';
import { createPaymentNotifier } from '../../notices.ts';
import { createShoppers, percentile } from '../../shoppers.ts';
import type { Figures, Part } from '../part.ts';

const SECONDS = 14;
/** Not counted: code is compiled, connections are opened, and no payments come yet. */
const WARM_UP_MS = 4_000;
/** From the answer of the API to the payment. */
const PAYS_AFTER_MS = 2_000;
const WINDOW_MS = 30 * 60_000;
const USERS = 500;
const CONNECTIONS = 64;
const END_TIMEOUT_MS = 60_000;

const acceptedReply = z.object({ orderNo: z.string() });
const timesRow = z.object({
  order_no: z.string(),
  reserved_at: z.date(),
  stored_at: z.date().nullable(),
  paid_at: z.date().nullable(),
});

export const latencyPart: Part = {
  name: 'latency',
  title: 'Latency at a steady pace',
  about:
    'Orders arrive at a steady pace and are paid two seconds later. Measured are the times from the reservation in Redis to the order in MySQL, and from the sending of the webhook to the paid order in MySQL.',
  columns: [
    { key: 'payableP50', label: 'accepted → payable, p50', unit: 'ms', digits: 0 },
    { key: 'payableP99', label: 'p99', unit: 'ms', digits: 0 },
    { key: 'paidP50', label: 'webhook → paid, p50', unit: 'ms', digits: 0 },
    { key: 'paidP99', label: 'p99', unit: 'ms', digits: 0 },
  ],
  charted: 'paidP99',
  targets: [
    { text: 'accepted → payable < 100 ms (p99)', figure: 'payableP99', of: 'at 50/s', atMost: 100 },
    { text: 'webhook → paid < 150 ms (p99)', figure: 'paidP99', of: 'at 50/s', atMost: 150 },
  ],
  async open() {
    const { checkout, close } = await openCheckout();
    return {
      contestants: [
        { name: 'at 50/s', role: 'ours', measure: () => measure(checkout, 50) },
        { name: 'at 25/s', role: 'variant', measure: () => measure(checkout, 25) },
      ],
      close,
    };
  },
};

/** A checkout that lasts until it is closed. */
function openCheckout(): Promise<{ checkout: BenchCheckout; close: () => Promise<void> }> {
  return new Promise((resolve, reject) => {
    const ended: Promise<void> = withBenchCheckout(
      (checkout) =>
        new Promise((finish) => {
          const close = (): Promise<void> => {
            finish();
            return ended;
          };
          resolve({ checkout, close });
        }),
    );
    ended.catch(reject);
  });
}

async function measure(checkout: BenchCheckout, rate: number): Promise<Figures> {
  const count = rate * SECONDS;
  const saleId = await checkout.openSale(count, WINDOW_MS);
  const shoppers = await createShoppers(checkout.apiUrl, USERS, CONNECTIONS);
  const notifier = createPaymentNotifier(checkout.apiUrl, CONNECTIONS);
  const sentAtMs = new Map<string, number>();
  const startedMs = Date.now();

  async function buyAndPay(i: number): Promise<void> {
    const { status, body } = await shoppers.placeOrder(i, saleId);
    assert.equal(status, 202, body);
    const { orderNo } = acceptedReply.parse(JSON.parse(body));
    await delay(PAYS_AFTER_MS);
    sentAtMs.set(orderNo, Date.now());
    await notifier.sendPaid(orderNo);
  }
  const running: Promise<void>[] = [];
  for (let i = 0; i < count; i += 1) {
    // Whatever the answers take, the next comes at its time.
    await delay(Math.max(0, startedMs + (i * 1_000) / rate - Date.now()));
    running.push(buyAndPay(i));
  }
  await Promise.all(running);
  shoppers.close();
  notifier.close();
  return readFigures(checkout, saleId, { count, sentAtMs, fromMs: startedMs + WARM_UP_MS });
}

/** @throws unless all orders are paid in the end */
async function readFigures(
  { stores: { pool } }: BenchCheckout,
  saleId: string,
  options: { count: number; sentAtMs: ReadonlyMap<string, number>; fromMs: number },
): Promise<Figures> {
  let rows: z.infer<typeof timesRow>[] = [];
  await waitUntil({
    what: 'all orders to be paid',
    timeoutMs: END_TIMEOUT_MS,
    check: async () => {
      rows = await selectRows(
        pool,
        timesRow,
        `SELECT o.order_no, o.reserved_at, stored.occurred_at AS stored_at, paid.occurred_at AS paid_at
         FROM orders o
         LEFT JOIN order_events stored ON stored.order_no = o.order_no AND stored.version = 1
         LEFT JOIN order_events paid ON paid.order_no = o.order_no AND paid.status = 'paid'
         WHERE o.sale_id = ?`,
        [saleId],
      );
      return rows.filter((row) => row.paid_at !== null).length === options.count;
    },
  });
  const counted = rows.filter((row) => row.reserved_at.getTime() >= options.fromMs);
  const payable = counted.map((row) => Number(row.stored_at) - row.reserved_at.getTime());
  const paid = counted.map((row) => Number(row.paid_at) - (options.sentAtMs.get(row.order_no) ?? 0));
  return {
    payableP50: percentile(payable, 0.5),
    payableP99: percentile(payable, 0.99),
    paidP50: percentile(paid, 0.5),
    paidP99: percentile(paid, 0.99),
  };
}
