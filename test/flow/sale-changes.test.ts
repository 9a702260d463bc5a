/**
 * Fifty random changes of a sale that is being bought from, while APIs and workers are killed: every change
 * that was answered as made is in effect, every refused one is not, and both stores have the same.
 */

import { setImmediate as turn } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { createRandom, type Random } from '../../chaos/random.ts';
import { shopSaleReply, type ShopSaleReply } from '../../src/api/calls/sales.ts';
import { runAudit } from '../../src/audit/run-audit.ts';
import {
  buildDocument,
  fromNow,
  LAMP,
  MUG,
  openBackOffice,
  type BackOffice,
} from '../api/sales/back-office.ts';
import { uniqueSaleId } from '../support/factories.ts';
import { selectOne } from '../support/rows.ts';
import {
  openShopper,
  orderOf,
  pressPay,
  problemOf,
  sessionOf,
  type Reply,
  type Shopper,
} from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';
import { openChangeStorm, PARTS, type ChangeStorm } from './change-storm.ts';

const SEED = 13;
const CHANGES = 50;
/** After each so many changes a process is killed while the next one is on its way. */
const KILL_EVERY = 7;
const SHOPPERS = 4;
/** Bounds a hang on a busy machine. */
const TIMEOUT_MS = 300_000;

interface Sku {
  sku: string;
  name: string;
  unitPrice: number;
  total: number;
  limitPerUser: number | null;
}
type Document = Record<string, unknown> & { skus: Sku[] };
type Step = { kind: 'put'; document: Document } | { kind: 'pause' | 'resume' };

/** What the shop might want next, from what the sale is. */
function nextStep(random: Random, document: Document, isPaused: boolean, i: number): Step {
  if (isPaused) return { kind: 'resume' };
  const at = random.int(0, document.skus.length - 1);
  const withSku = (change: Partial<Sku>): Document => ({
    ...document,
    skus: document.skus.map((item, position) => (position === at ? { ...item, ...change } : item)),
  });
  const put = (changed: Document): Step => ({ kind: 'put', document: changed });
  const { total = 0 } = document.skus[at] ?? {};
  return random.pick<() => Step>([
    () => put(withSku({ total: total + random.int(1, 40) })),
    // Often below what is held and sold.
    () => put(withSku({ total: random.int(0, total) })),
    () => put({ ...withSku({ total: random.int(0, total) }), name: `Lower ${i}` }),
    () => put(withSku({ limitPerUser: random.pick([null, 1, 2, 5]) })),
    () => put({ ...document, limitPerUser: random.pick([null, 5, 20]) }),
    () => put({ ...document, closesAt: fromNow(2 + i) }),
    () => put({ ...document, paymentWindowMs: random.int(20, 30) * 60_000, metadata: { step: `${i}` } }),
    () =>
      put({
        ...document,
        skus: [...document.skus, { ...LAMP, sku: `new ${i}/é`, total: random.int(1, 30) }],
      }),
    () => ({ kind: 'pause' }),
  ])();
}

/** One of each ten changes can only be refused, as a lamp is sold, and another can only be made. */
function certainStep(document: Document, i: number): Step | undefined {
  const withLamps = (change: (total: number) => number): Step => {
    const skus = document.skus.map((item) =>
      item.sku === 'lamp' ? { ...item, total: change(item.total) } : item,
    );
    return { kind: 'put', document: { ...document, skus } };
  };
  if (i % 10 === 3) return withLamps(() => 0);
  return i % 10 === 5 ? withLamps((total) => total + 1) : undefined;
}

/** Sends it through either API, again and again until there is an answer that is no "later". */
async function persist(
  offices: readonly BackOffice[],
  send: (office: BackOffice) => Promise<Reply>,
): Promise<Reply> {
  let tries = 0;
  return waitFor('an answer', async () => {
    tries += 1;
    const office = offices[tries % offices.length];
    const reply = office && (await send(office).catch(() => undefined));
    return reply && reply.status < 500 && reply;
  });
}

/** Buys, and pays or cancels or walks away, until `isOver`; calls to an API that was killed fail. */
async function shop(
  storm: ChangeStorm,
  saleId: string,
  random: Random,
  bought: Shopper[],
  isOver: () => boolean,
) {
  while (!isOver()) {
    const shopper = await openShopper(random.pick(storm.apiUrls));
    const sku = random.pick(['lamp', 'lamp', 'mug']);
    const reply = await shopper
      .placeOrder({ saleId, items: [{ sku, quantity: random.int(1, 2) }] })
      .catch(() => undefined);
    if (reply?.status === 202) {
      bought.push(shopper);
      const { orderNo } = orderOf(reply);
      if (random.next() < 0.4) await shopper.cancel(orderNo).catch(() => {});
      else if (random.next() < 0.5) await tryToPay(shopper, orderNo).catch(() => {});
    }
    await turn();
  }
}

async function tryToPay(shopper: Shopper, orderNo: string): Promise<void> {
  const session = await waitFor('a page to pay on', async () => {
    const reply = await shopper.pay(orderNo);
    return reply.status === 201 ? reply : reply.status !== 409 && reply.status < 500 && reply;
  });
  if (session.status === 201) await pressPay(sessionOf(session).url);
}

/** What the shop decided, without what comes of it. */
function decided({ skus, ...shown }: Record<string, unknown> & { skus: readonly Sku[] }) {
  const { name, closesAt, limitPerUser = null, paymentWindowMs = 1_800_000, metadata = null } = shown;
  return {
    name,
    closesAt,
    limitPerUser,
    paymentWindowMs,
    metadata,
    skus: skus.map(({ sku, total, limitPerUser: limit }) => ({ sku, total, limitPerUser: limit })),
  };
}

async function readBack(offices: readonly BackOffice[], saleId: string): Promise<ShopSaleReply> {
  return shopSaleReply.parse((await persist(offices, (office) => office.get(saleId))).body);
}

test(
  `${CHANGES} random changes of a sale under load and kills: each is made as it was answered, the audit is clean`,
  { timeout: TIMEOUT_MS },
  async () => {
    const storm = await openChangeStorm(onTestFinished);
    const { stores } = storm;
    const random = createRandom(SEED);
    const offices = await Promise.all(storm.apiUrls.map((url) => openBackOffice(url)));
    const saleId = uniqueSaleId();
    let document: Document = {
      ...buildDocument(),
      skus: [
        { ...LAMP, total: 200, limitPerUser: null },
        { ...MUG, total: 100, limitPerUser: null },
      ],
    };
    const made = await persist(offices, (office) => office.put(saleId, document));
    let version = shopSaleReply.parse(made.body).version;
    await waitFor('a worker to put the sale into Redis', () => stores.saleStock.read(saleId));

    let isOver = false;
    const bought: Shopper[] = [];
    const shopping = Promise.all(
      Array.from({ length: SHOPPERS }, (_, i) =>
        shop(storm, saleId, createRandom(SEED + i), bought, () => isOver),
      ),
    );
    await waitFor('the first purchases', () => bought.length > 10);
    const owner = await openShopper(storm.apiUrls[0] ?? '');
    await tryToPay(owner, await owner.buy(saleId));
    let isPaused = false;
    const answers = { made: 0, refused: 0 };
    let back = Promise.resolve();
    for (let i = 0; i < CHANGES; i += 1) {
      const step: Step = certainStep(document, i) ?? nextStep(random, document, isPaused, i);
      const headers = { 'if-match': `"${version}"` };
      const asking = persist(offices, (office) =>
        step.kind === 'put' ? office.put(saleId, step.document, headers) : office.act(saleId, step.kind),
      );
      if (i % KILL_EVERY === KILL_EVERY - 1) {
        await back;
        const killed = await storm.kill(PARTS[Math.floor(i / KILL_EVERY) % PARTS.length] ?? 'api-1');
        ({ back } = killed);
      }
      const reply = await asking;
      const isMade = reply.status === 200;
      if (!isMade) expect(problemOf(reply).code).toBe('stock_below_committed');
      if (isMade && step.kind === 'put') ({ document } = step);
      if (isMade && step.kind !== 'put') isPaused = step.kind === 'pause';
      answers[isMade ? 'made' : 'refused'] += 1;

      const shown = await readBack(offices, saleId);
      expect(decided(shown)).toEqual(decided(document));
      expect(shown).toMatchObject({ paused: isPaused, pending: false });
      expect(shown.version - version, JSON.stringify(step)).toBeLessThanOrEqual(isMade ? 1 : 0);
      ({ version } = shown);
    }
    await back;
    expect(Math.min(answers.made, answers.refused)).toBeGreaterThanOrEqual(CHANGES / 10);
    expect(bought.length).toBeGreaterThan(10);
    if (isPaused) await persist(offices, (office) => office.act(saleId, 'resume'));
    isOver = true;
    await shopping;
    await expectSameInBoth(storm, saleId);
    await expectCleanEnd(storm, saleId, offices);
  },
);

async function expectSameInBoth({ stores }: ChangeStorm, saleId: string): Promise<void> {
  const [inRedis, inMysql] = [await stores.saleStock.read(saleId), await stores.sales.read(saleId)];
  const { refundRestoresLimit: _, skus, ...rules } = inMysql?.sale ?? { skus: [] };
  expect(inRedis).toMatchObject(rules);
  const plain = inRedis?.skus.map(({ available: _a, held: _h, sold: _s, ...item }) => item);
  expect(plain).toEqual(skus);
}

/** Closes the sale, waits until it is settled, and looks at all that is left. */
async function expectCleanEnd(
  storm: ChangeStorm,
  saleId: string,
  offices: readonly BackOffice[],
): Promise<void> {
  const { stores } = storm;
  expect((await persist(offices, (office) => office.act(saleId, 'close'))).status).toBe(200);
  const open = async () => {
    const [rows] = await stores.pool.query(
      `SELECT order_no FROM orders WHERE sale_id = ? AND status = 'awaiting_payment' AND payment = 'none'`,
      [saleId],
    );
    return Array.isArray(rows) ? rows.map((row) => String(Object(row).order_no)) : [];
  };
  const isSettled = async () => (await stores.sales.read(saleId))?.isSettled;
  await waitFor(
    'the sale to be settled',
    async () => {
      for (const orderNo of await open()) await stores.orders.requestCancel(orderNo).catch(() => {});
      return isSettled();
    },
    120_000,
  );
  const { version } = await readBack(offices, saleId);
  const count = async (what: string, sql: string) => {
    const row = await selectOne(stores.pool, `SELECT COUNT(*) AS found FROM ${sql}`, [saleId]);
    return { [what]: Number(row['found']) };
  };
  expect({
    ...(await count('changed', `shop_events WHERE sale_id = ? AND type = 'sale.changed'`)),
    ...(await count('closed', `shop_events WHERE sale_id = ? AND type = 'sale.closed'`)),
    ...(await count('settled', `shop_events WHERE sale_id = ? AND type = 'sale.settled'`)),
    ...(await count('pending', `sale_changes WHERE sale_id = ? AND status = 'pending'`)),
    // The reconciliation has run all the while, and took no change for drift.
    ...(await count(
      'mended',
      `audit_log WHERE subject LIKE CONCAT('sale ', ?, ' %') AND action = 'stock_corrected'`,
    )),
  }).toEqual({ changed: version - 1, closed: 1, settled: 1, pending: 0, mended: 0 });
  const { findings } = await runAudit(storm, saleId, []);
  expect(findings).toEqual([]);
}
