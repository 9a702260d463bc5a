/** The keeper of the sales: it puts them into Redis, completes changes, and announces each thing once. */

import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { refuseOrders } from '../../src/sales/calling-off.ts';
import type { Sale } from '../../src/sales/sale.ts';
import { createSaleKeeper } from '../../src/workers/sale-keeper.ts';
import { buildOrder, buildReserveRequest, buildSale, uniqueSaleId } from '../support/factories.ts';
import { select, selectOne } from '../support/rows.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

const MINUTE_MS = 60_000;

let stores: TestStores;
let passes: (() => Promise<number>)[];
beforeAll(async () => {
  stores = await openTestStores();
  // As in several workers.
  passes = [1, 2, 3, 4].map(() => createSaleKeeper({ ...stores, log: silent }));
});
beforeEach(async () => {
  await stores.pool.query('UPDATE sales SET settled_at = NOW(3) WHERE settled_at IS NULL');
});

/** All workers look at once, and then once more: what depends on the first look follows. */
async function look(): Promise<void> {
  for (let round = 0; round < 2; round += 1) await Promise.all(passes.map((pass) => pass()));
}

const eventRow = z.object({ type: z.string(), data: z.string() });
const unitsSchema = z.object({
  sale: z.object({
    skus: z.array(z.object({ sku: z.string(), held: z.int(), sold: z.int(), unsold: z.int().optional() })),
  }),
});

async function eventsOf(saleId: string) {
  const rows = await select(
    stores.pool,
    'SELECT type, data FROM shop_events WHERE sale_id = ? ORDER BY event_id',
    [saleId],
  );
  return rows.map((row) => {
    const { type, data } = eventRow.parse(row);
    return { type: type.slice('sale.'.length), units: unitsSchema.parse(JSON.parse(data)).sale.skus };
  });
}
const typesOf = async (saleId: string) => (await eventsOf(saleId)).map(({ type }) => type);

async function closeNow(saleId: string): Promise<void> {
  const recorded = await stores.saleChanges.record(
    { action: 'close', saleId },
    { actor: 'grace', reason: null },
  );
  if (recorded.kind === 'recorded') await stores.saleChanges.complete(recorded.change, stores.saleStock);
}

async function reserve(saleId: string, sku: string, quantity: number): Promise<string> {
  const items = [{ sku, quantity }];
  const outcome = await stores.reservations.reserve(buildReserveRequest({ saleId, items, userId: sku }));
  if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
  return outcome.orderNo;
}

/** One lamp, and nothing else. */
const lastLamp = { skus: [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 1, limitPerUser: null }] };

describe('warm-up', () => {
  test.each<[string, Partial<Sale>, boolean]>([
    ['that opens within ten minutes', { opensAtMs: Date.now() + 9 * MINUTE_MS }, true],
    ['that has opened', {}, true],
    ['that opens later', { opensAtMs: Date.now() + 20 * MINUTE_MS }, false],
    ['that is over', { opensAtMs: Date.now() - 2 * MINUTE_MS, closesAtMs: Date.now() - MINUTE_MS }, false],
  ])('a sale %s: %o, is put into Redis: %s', async (_, times, isThere) => {
    const sale = buildSale(times);
    await stores.sales.create(sale);
    await look();
    expect((await stores.saleStock.read(sale.saleId)) !== undefined).toBe(isThere);
  });

  test('a draft stays where it is', async () => {
    const sale = buildSale();
    const decision = { actor: 'grace', reason: null };
    const ask = { action: 'put', sale, isDraft: true, ifMatch: undefined, isNew: false } as const;
    await stores.saleChanges.record(ask, decision);
    await look();
    expect(await stores.saleStock.read(sale.saleId)).toBeUndefined();
    expect(await typesOf(sale.saleId)).toEqual([]);
  });
});

describe('news', () => {
  test('an opening is announced once by many workers, and not before it', async () => {
    const later = await stores.openSale(buildSale({ opensAtMs: Date.now() + MINUTE_MS }));
    const { saleId } = await stores.openSale(buildSale());
    await look();
    await look();
    expect(await typesOf(saleId)).toEqual(['opened']);
    expect(await typesOf(later.saleId)).toEqual([]);
  });

  test('a sale that is paused at its opening is announced when it is resumed', async () => {
    const { saleId } = await stores.openSale(buildSale({ paused: true }));
    await look();
    expect(await typesOf(saleId)).toEqual([]);
    const decision = { actor: 'grace', reason: null };
    await stores.saleChanges.record({ action: 'resume', saleId }, decision);
    await look();
    expect(await typesOf(saleId)).toEqual(['changed', 'opened']);
  });

  test('sold out is announced once until units come back, and then once more', async () => {
    const { saleId } = await stores.openSale(buildSale(lastLamp));
    const orderNo = await reserve(saleId, 'lamp', 1);
    await look();
    await look();
    expect(await typesOf(saleId)).toEqual(['opened', 'sold_out']);
    await stores.reservations.release(orderNo);
    await look();
    await reserve(saleId, 'lamp', 1);
    await look();
    expect(await typesOf(saleId)).toEqual(['opened', 'sold_out', 'sold_out']);
  });

  test('sold out is announced when nothing but a called-off SKU is left', async () => {
    const [lamp, mug] = buildSale().skus;
    if (!lamp || !mug) throw new Error('a sale has two SKUs');
    const { saleId } = await stores.openSale(buildSale({ skus: [{ ...lamp, total: 1 }, mug] }));
    const by = { actor: 'grace', reason: null };
    await refuseOrders(stores, { saleId, sku: 'mug', restock: false, ...by });
    await look();
    const before = await typesOf(saleId);

    await reserve(saleId, 'lamp', 1);
    await look();

    expect((await typesOf(saleId)).slice(before.length)).toEqual(['sold_out']);
  });

  test('a worker that looked long ago announces no second time what was announced since', async () => {
    const { saleId } = await stores.openSale(buildSale(lastLamp));
    expect(await stores.saleNews.announceSoldOut(saleId, 0, [])).toBe(true);
    await stores.saleNews.noteAvailable(saleId, 1);
    expect(await stores.saleNews.announceSoldOut(saleId, 0, [])).toBe(false);
    await stores.saleNews.noteAvailable(saleId, 0);
    expect(await stores.saleNews.announceSoldOut(saleId, 1, [])).toBe(true);
  });

  test('the end says what is unsold and held, and once nothing is held the final numbers', async () => {
    const { saleId } = await stores.openSale(buildSale());
    const [sold, returned] = [await reserve(saleId, 'lamp', 2), await reserve(saleId, 'mug', 1)];
    for (const [orderNo, sku, quantity] of [
      [sold, 'lamp', 2],
      [returned, 'mug', 1],
    ] as const) {
      const items = [{ sku, quantity, unitPrice: 1 }];
      await stores.orders.storeOrder(buildOrder({ saleId, orderNo, items }), 'due');
    }
    await closeNow(saleId);
    await look();
    expect(await eventsOf(saleId)).toMatchObject([
      { type: 'opened' },
      { type: 'changed' },
      {
        type: 'closed',
        units: [
          { unsold: 8, held: 2 },
          { unsold: 4, held: 1 },
        ],
      },
    ]);

    await stores.orders.cancel(sold, 'operator_request', { force: false });
    await stores.reservations.release(sold);
    await look();
    expect(await typesOf(saleId)).toEqual(['opened', 'changed', 'closed']);
    await stores.orders.cancel(returned, 'operator_request', { force: false });
    await stores.reservations.release(returned);
    await look();
    await look();
    expect((await eventsOf(saleId)).slice(3)).toMatchObject([
      {
        type: 'settled',
        units: [
          { unsold: 10, held: 0, sold: 0 },
          { unsold: 5, held: 0 },
        ],
      },
    ]);
  });

  test('the end waits for what only Redis counts, and for a Redis that has lost the sale', async () => {
    const { saleId } = await stores.openSale(buildSale());
    await reserve(saleId, 'mug', 1);
    await closeNow(saleId);
    await look();
    // Not stored yet, so MySQL counts nothing held.
    expect(await typesOf(saleId)).toEqual(['opened', 'changed', 'closed']);
    const other = await stores.openSale(buildSale());
    await closeNow(other.saleId);
    await stores.redis.del(...(await stores.redis.keys(`holdfast:{${other.saleId}.0}:*`)));
    await look();
    expect(await typesOf(other.saleId)).toEqual(['opened', 'changed']);
  });

  test('a sale that never was in Redis ends with what MySQL counts', async () => {
    const sale = buildSale({ opensAtMs: Date.now() - 2 * MINUTE_MS, closesAtMs: Date.now() - MINUTE_MS });
    await stores.sales.create(sale);
    await look();
    await look();
    expect(await eventsOf(sale.saleId)).toMatchObject([
      { type: 'closed', units: [{ unsold: 10 }, { unsold: 5 }] },
      { type: 'settled' },
    ]);
  });

  test('while a change is pending nothing of the sale is announced, as it may move its end', async () => {
    const sale = await stores.openSale(buildSale());
    const { saleId } = sale;
    const extended = { ...sale, closesAtMs: sale.closesAtMs + MINUTE_MS };
    const ask = { action: 'put', sale: extended, isDraft: false, ifMatch: undefined, isNew: false } as const;
    await stores.saleChanges.record(ask, { actor: 'grace', reason: null });
    await stores.pool.query('UPDATE sales SET closes_at = NOW(3) - INTERVAL 1 SECOND WHERE sale_id = ?', [
      saleId,
    ]);
    expect(await stores.saleNews.announceClosed(saleId, [])).toBe(false);
    await look();
    expect(await typesOf(saleId)).toEqual(['opened', 'changed']);
  });
});

test('changes that are left pending are completed once, and one that cannot be made is refused', async () => {
  const [kept, refused] = [await stores.openSale(buildSale()), await stores.openSale(buildSale())];
  await reserve(refused.saleId, 'lamp', 2);
  for (const sale of [kept, refused]) {
    const skus = sale.skus.map((item) => ({ ...item, total: 1 }));
    const ask = {
      action: 'put',
      sale: { ...sale, skus },
      isDraft: false,
      ifMatch: undefined,
      isNew: false,
    } as const;
    await stores.saleChanges.record(ask, { actor: 'grace', reason: null });
  }
  await look();
  expect(await typesOf(kept.saleId)).toEqual(['opened', 'changed']);
  expect(await typesOf(refused.saleId)).toEqual(['opened']);
  const statuses = await select(
    stores.pool,
    `SELECT sale_id, status, sku, committed, document FROM sale_changes WHERE action = 'put' AND sale_id IN (?)
     ORDER BY status`,
    [[kept.saleId, refused.saleId]],
  );
  expect(statuses).toEqual([
    { sale_id: kept.saleId, status: 'applied', sku: null, committed: null, document: null },
    { sale_id: refused.saleId, status: 'refused', sku: 'lamp', committed: 2, document: null },
  ]);
});

/** Sales of one lamp each, as many shops' programs would make them at once. */
async function makeMany(count: number, opensAt: Date, closedAt: Date | null = null): Promise<string[]> {
  const saleIds = Array.from({ length: count }, () => uniqueSaleId());
  const closesAt = closedAt ?? new Date(opensAt.getTime() + 60 * MINUTE_MS);
  await stores.pool.query(
    `INSERT INTO sales (sale_id, name, currency, opens_at, closes_at, payment_window_ms, opened_at, closed_at) VALUES ?`,
    [
      saleIds.map((saleId) => [
        saleId,
        'Many',
        'EUR',
        opensAt,
        closesAt,
        60_000,
        closedAt && opensAt,
        closedAt,
      ]),
    ],
  );
  // What is held keeps one that has closed from being settled.
  await stores.pool.query(
    `INSERT INTO skus (sale_id, sku, name, unit_price, total, held, position) VALUES ?`,
    [saleIds.map((saleId) => [saleId, 'lamp', 'Lamp', 100, 1, closedAt ? 1 : 0, 0])],
  );
  return saleIds;
}

describe('many sales at once', () => {
  test('a thousand sales that open at one instant are all put into Redis, and their opening is announced', async () => {
    const [pass] = passes;
    const saleIds = await makeMany(1_000, new Date(Date.now() - 1));
    await pass?.();
    await pass?.();
    const shown = await Promise.all(saleIds.map((saleId) => stores.saleStock.read(saleId)));
    expect(shown.filter((view) => view?.state === 'open')).toHaveLength(1_000);
    const opened = `SELECT COUNT(*) AS opened FROM shop_events WHERE type = 'sale.opened' AND sale_id IN (?)`;
    expect(await selectOne(stores.pool, opened, [saleIds])).toEqual({ opened: 1_000 });
  });

  test('a sale that opened before many that never settle is looked after, and so is the last of those', async () => {
    const [, pass] = passes;
    const old = await stores.openSale(buildSale({ opensAtMs: Date.now() - 10 * MINUTE_MS }));
    const waiting = await makeMany(300, new Date(Date.now() - 5 * MINUTE_MS), new Date());
    await pass?.();
    expect(await typesOf(old.saleId)).toEqual(['opened']);
    await stores.pool.query('UPDATE skus SET held = 0 WHERE sale_id IN (?)', [waiting]);
    for (let round = 0; round < 10; round += 1) await pass?.();
    const settled = `SELECT COUNT(*) AS settled FROM sales WHERE settled_at IS NOT NULL AND sale_id IN (?)`;
    expect(await selectOne(stores.pool, settled, [waiting])).toEqual({ settled: 300 });
  });
});
