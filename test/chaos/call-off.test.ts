/**
 * A sale is called off while payments still come and staff extend deadlines, workers, Temporal and Redis are
 * killed and its workflow is terminated by hand; then one SKU of two. Every cent goes back once.
 * CALL_OFF_FULL=1 runs it with the numbers of a big sale.
 */

import pLimit from 'p-limit';
import { ulid } from 'ulidx';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { startSystem } from '../../chaos/system.ts';
import { callOffReply } from '../../src/api/calls/call-off.ts';
import { signToken } from '../../src/api/http/auth.ts';
import { callOffWorkflowId } from '../../src/workflows/contract.ts';
import { demoSecrets } from '../../stack/app.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { buildSale } from '../support/factories.ts';
import { select, selectOne } from '../support/rows.ts';
import { openTestProcesses, type TestProcesses } from '../support/test-processes.ts';
import { waitFor } from '../support/wait.ts';

const isFull = process.env['CALL_OFF_FULL'] === '1';
const COUNTS = isFull
  ? { paid: 2_000, open: 500, queued: 200, free: 50, disputed: 20, late: 60, extended: 100 }
  : { paid: 60, open: 30, queued: 20, free: 10, disputed: 4, late: 10, extended: 10 };
/** Of the sale of which one SKU is called off. */
const OF_SKU = isFull ? { both: 200, alone: 100, other: 100 } : { both: 12, alone: 8, other: 8 };
/** A busy machine makes some dozens of whole lives and refunds a second. */
const TIMEOUT_MS = isFull ? 30 * 60_000 : 5 * 60_000;
const LAMP_PRICE = 4_900;
const MUG_PRICE = 1_450;
const CALLS_AT_ONCE = 16;

type TestSystem = Awaited<ReturnType<typeof startSystem>>;
const progress = (line: string): void => console.log(`· ${line}`);

let own: TestProcesses;
let system: TestSystem;
let started: TestSystem | undefined;
let staff: string;
beforeAll(async () => {
  own = await openTestProcesses((crash, name) => started?.supervise(crash, name));
  system = await startSystem(own.processes, progress);
  started = system;
  staff = await signToken(demoSecrets.jwt, 'grace', '12h', { roles: ['admin'] });
}, 180_000);
afterAll(async () => {
  await started?.close();
  await own.close();
});

const limit = pLimit(CALLS_AT_ONCE);
const all = <T, R>(of: readonly T[], work: (one: T, i: number) => Promise<R>): Promise<R[]> =>
  Promise.all(of.map((one, i) => limit(() => work(one, i))));
const times = <R>(count: number, work: (i: number) => Promise<R>): Promise<R[]> =>
  all(Array.from({ length: count }), (_, i) => work(i));

/** Repeated through every fault, under the same key. Undefined: no answer yet. */
async function call(method: string, path: string, token: string, body?: object, key = ulid()) {
  const [api = ''] = system.apiUrls;
  return waitFor(
    `${method} ${path}`,
    async () => {
      const response = await fetch(new URL(path, api), {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          'idempotency-key': key,
          ...(body && { 'content-type': 'application/json' }),
        },
        ...(body && { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(8_000),
      }).catch(() => undefined);
      const text = await response?.text().catch(() => undefined);
      if (!response || text === undefined || response.status >= 500 || response.status === 429)
        return undefined;
      return { status: response.status, body: JSON.parse(text) as unknown };
    },
    120_000,
  );
}

const accepted = z.object({ orderNo: z.string() });

async function openSale(): Promise<string> {
  const skus = [
    { sku: 'lamp', name: 'Storm lamp', unitPrice: LAMP_PRICE, total: 10_000, limitPerUser: null },
    { sku: 'mug', name: 'Enamel mug', unitPrice: MUG_PRICE, total: 10_000, limitPerUser: null },
    { sku: 'card', name: 'A card', unitPrice: 0, total: 10_000, limitPerUser: null },
  ];
  const sale = buildSale({ skus });
  await system.stores.sales.create(sale);
  await system.stores.sales.warmUp(sale.saleId, system.stores.saleStock);
  return sale.saleId;
}

async function buy(saleId: string, cart: Record<string, number>, i: number): Promise<string> {
  const token = await signToken(demoSecrets.jwt, `shopper-${i}`, '12h');
  const items = Object.entries(cart).map(([sku, quantity]) => ({ sku, quantity }));
  return accepted.parse((await call('POST', '/v1/orders', token, { saleId, items })).body).orderNo;
}

const priceOf = (cart: Record<string, number>): number =>
  (cart['lamp'] ?? 0) * LAMP_PRICE + (cart['mug'] ?? 0) * MUG_PRICE;

const pay = (reference: string, amount: number) =>
  system.providerConsole.takeStrayPayment({ reference, amount });

const refusal = z.object({ code: z.string() });

/** By staff who have not heard of it. @returns false: it does not wait for a payment any more */
async function extend(orderNo: string, until: string): Promise<boolean> {
  const { status, body } = await call('POST', `/v1/admin/orders/${orderNo}/deadline`, staff, { until });
  if (status === 409) expect(refusal.parse(body).code).toBe('not_extendable');
  else expect(status).toBe(200);
  return status === 200;
}

async function countOrders(saleId: string, condition: string): Promise<number> {
  const sql = `SELECT COUNT(*) AS orders FROM orders WHERE sale_id = ? AND ${condition}`;
  return Number((await selectOne(system.stores.pool, sql, [saleId]))['orders']);
}

const awaitOrders = (saleId: string, condition: string, count: number) =>
  waitFor(
    `${count} orders ${condition}`,
    async () => (await countOrders(saleId, condition)) >= count,
    TIMEOUT_MS,
  );

const path = (saleId: string, query = '') => `/v1/admin/sales/${saleId}/call-off${query}`;
const look = async (saleId: string, query?: string) =>
  callOffReply.parse((await call('GET', path(saleId, query), staff)).body);

function partOf(name: string) {
  const part = system.parts.find((one) => one.name === name);
  if (!part) throw new Error(`no part ${name}`);
  return part;
}

async function killAndStart(name: string): Promise<void> {
  progress(`killing ${name}`);
  await partOf(name).kill();
  await partOf(name).start();
}

async function awaitEnd(saleId: string, query?: string) {
  let shown = '';
  return waitFor(
    'the end of the calling-off',
    async () => {
      const report = await look(saleId, query);
      const { open, requested, refunded, exceptions, passes } = report;
      const line = `open ${open.orders}, requested ${requested.orders}, refunded ${refunded.orders}, listed ${exceptions.length}, passes ${passes}`;
      if (line !== shown) progress(line);
      shown = line;
      return report.endedAt !== null && report;
    },
    TIMEOUT_MS,
  );
}

/** By the provider's book: of each order of the sale what was collected, and what went back. */
async function bookOf(saleId: string) {
  const payments = await system.providerConsole.listPayments();
  return payments.filter(({ reference }) => reference.startsWith(`${saleId}-`));
}

test(
  'a called-off sale sends every cent back once, through payments that go on, kills and a terminated workflow',
  { timeout: TIMEOUT_MS },
  async () => {
    const saleId = await openSale();
    const cartOf = (i: number) => (i % 2 === 0 ? { lamp: 1 } : { lamp: 1, mug: 2 });
    const began = Date.now();
    const paid = await times(COUNTS.paid, async (i) => {
      const orderNo = await buy(saleId, cartOf(i), i);
      await pay(orderNo, priceOf(cartOf(i)));
      return orderNo;
    });
    await times(COUNTS.free, (i) => buy(saleId, { card: 1 }, i));
    await awaitOrders(saleId, `status = 'paid'`, COUNTS.paid + COUNTS.free);
    const book = await bookOf(saleId);
    const disputed = new Set(paid.slice(0, COUNTS.disputed));
    const disputes = book.filter(({ reference }) => disputed.has(reference));
    await all(disputes, ({ id }) => system.providerConsole.openDispute(id));
    await awaitOrders(saleId, `payment = 'disputed'`, COUNTS.disputed);
    const open = await times(COUNTS.open, (i) => buy(saleId, { lamp: 1 }, i));
    await awaitOrders(saleId, `status = 'awaiting_payment'`, COUNTS.open);
    // Nothing stores them while no worker lives.
    await Promise.all([partOf('worker-1').kill(), partOf('worker-2').kill()]);
    const queued = await times(COUNTS.queued, (i) => buy(saleId, { lamp: 1 }, i));
    progress(`sold within ${Math.round((Date.now() - began) / 1_000)} s`);

    const { body: dry } = await call('POST', path(saleId), staff, { dryRun: true });
    expect(dry).toMatchObject({
      open: { orders: COUNTS.open },
      paid: { orders: COUNTS.paid + COUNTS.free - COUNTS.disputed },
      disputed: { orders: COUNTS.disputed },
    });
    const calledOffMs = Date.now();
    const { body } = await call('POST', path(saleId), staff, { reason: 'The hall has burnt down' });
    const { jobId } = callOffReply.parse(body);
    const laterOn = new Date(calledOffMs + 12 * 60 * 60_000).toISOString();
    const early = await all(open.slice(0, COUNTS.extended), (orderNo) => extend(orderNo, laterOn));
    expect(early).not.toContain(false);
    // Money for open orders comes, and more are extended, before and after each of them is closed.
    const payers = open.slice(0, COUNTS.late);
    const paying = all(payers.slice(COUNTS.late / 2), (orderNo) => pay(orderNo, LAMP_PRICE));
    const extending = all([...open.slice(COUNTS.late), ...queued], (orderNo) => extend(orderNo, laterOn));
    await Promise.all([partOf('worker-1').start(), partOf('worker-2').start()]);
    const refunded = (share: number) =>
      waitFor(
        'some refunds',
        async () => (await look(saleId)).refunded.orders >= COUNTS.paid * share,
        TIMEOUT_MS,
      );
    await refunded(0.1);
    const late = payers.slice(0, COUNTS.late / 2);
    const ofLate = `order_no IN (${late.map((orderNo) => `'${orderNo}'`).join(', ')})`;
    await awaitOrders(saleId, `closing_reason IS NOT NULL AND ${ofLate}`, late.length);
    await all(late, (orderNo) => pay(orderNo, LAMP_PRICE));
    await killAndStart('redis');
    await refunded(0.3);
    await killAndStart('worker-1');
    await killAndStart('temporal');
    await refunded(0.5);
    progress('terminating its workflow');
    await system.client.workflow
      .getHandle(callOffWorkflowId({ jobId }))
      .terminate('by hand')
      .catch(() => undefined);
    await paying;
    const extended = (await extending).filter((isExtended) => isExtended).length;
    progress(
      `extended ${early.length} at once, and ${extended} of ${COUNTS.open - COUNTS.late + COUNTS.queued} later`,
    );
    const report = await awaitEnd(saleId);
    progress(`over within ${Math.round((Date.now() - calledOffMs) / 1_000)} s`);

    expect(report.open.orders).toBe(0);
    expect(report.requested.orders).toBe(0);
    expect(report.late.orders).toBeGreaterThanOrEqual(late.length);
    expect(new Set(report.exceptions.map(({ orderNo }) => orderNo))).toEqual(disputed);
    const sold = COUNTS.paid + COUNTS.free + COUNTS.open + COUNTS.queued;
    expect(await countOrders(saleId, `status IN ('paid', 'cancelled')`)).toBe(sold);
    expect(await countOrders(saleId, `status = 'paid' AND payment NOT IN ('refunded', 'disputed')`)).toBe(0);
    const after = await waitFor('the late money to be back', async () => {
      const payments = await bookOf(saleId);
      const kept = payments.filter(
        ({ reference, amount, returned }) => returned < amount && !disputed.has(reference),
      );
      return kept.length === 0 && payments;
    });
    for (const { reference, amount, returned } of after)
      expect([reference, returned]).toEqual([reference, disputed.has(reference) ? 0 : amount]);
    const back = after.reduce((sum, { returned }) => sum + returned, 0);
    expect(report.refunded.amount + report.late.amount).toBe(back);
    progress(`${after.length} payments, ${back} went back, ${report.late.orders} of them late`);
    await expectCleanAudit(system);
  },
);

test(
  'one SKU of two that is called off takes its lines along, and leaves the others paid',
  { timeout: TIMEOUT_MS },
  async () => {
    const saleId = await openSale();
    const carts = [
      ...Array.from({ length: OF_SKU.both }, () => ({ lamp: 1, mug: 2 })),
      ...Array.from({ length: OF_SKU.alone }, () => ({ mug: 1 })),
      ...Array.from({ length: OF_SKU.other }, () => ({ lamp: 2 })),
    ];
    const paid = await all(carts, async (cart, i) => {
      const orderNo = await buy(saleId, cart, i);
      await pay(orderNo, priceOf(cart));
      return orderNo;
    });
    await awaitOrders(saleId, `status = 'paid'`, carts.length);

    await call('POST', path(saleId), staff, { sku: 'mug', restock: true });
    await waitFor('some refunds', async () => (await look(saleId, '?sku=mug')).refunded.orders > 0);
    await killAndStart('worker-2');
    const report = await awaitEnd(saleId, '?sku=mug');

    expect(report.exceptions).toEqual([]);
    const returned = new Map((await bookOf(saleId)).map((payment) => [payment.reference, payment.returned]));
    const isRight = carts.map((cart, i) => {
      const mugs = 'mug' in cart ? cart.mug : 0;
      return returned.get(paid[i] ?? '') === mugs * MUG_PRICE;
    });
    expect(isRight).not.toContain(false);
    const mugs = await select(
      system.stores.pool,
      `SELECT held, sold FROM skus WHERE sale_id = ? AND sku = 'mug'`,
      [saleId],
    );
    expect(mugs).toEqual([{ held: 0, sold: 0 }]);
    await expectCleanAudit(system);
  },
);
