/** The second model of design D: a purchase is answered only once its order is stored. */

import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Peer, PeerOrder } from '../../bench/peers/peer.ts';
import { openWithWaits } from '../../bench/peers/stored-first.ts';
import { buildOrder, uniqueSaleId } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

/** Bounds a hang. */
const LONG_MS = 60_000;

let stores: TestStores;
let saleId: string;
let peer: Peer;

beforeAll(async () => {
  stores = await openTestStores();
});
beforeEach(() => {
  saleId = uniqueSaleId();
});
afterEach(() => peer.close());

async function openSale(units: number, waits: { storing: number; timeoutMs: number }): Promise<void> {
  const [redisUrl = ''] = stores.config.REDIS_URL;
  peer = await openWithWaits({ redisUrl, mysqlUrl: stores.config.MYSQL_URL }, waits);
  await peer.openSale(saleId, units);
}

/** Of one unit. */
function build(overrides: Partial<PeerOrder> = {}): PeerOrder {
  return { ...buildOrder({ saleId, items: [{ sku: 'unit', quantity: 1, unitPrice: 1_000 }] }), ...overrides };
}

async function readHeld(): Promise<unknown> {
  return (await select(stores.pool, 'SELECT held FROM skus WHERE sale_id = ?', [saleId]))[0]?.['held'];
}

/** While `work` runs no order of the sale can be committed. */
async function whileStockIsLocked(work: () => Promise<void>): Promise<void> {
  const connection = await stores.pool.getConnection();
  try {
    await connection.beginTransaction();
    await connection.query('SELECT held FROM skus WHERE sale_id = ? FOR UPDATE', [saleId]);
    await work();
  } finally {
    await connection.rollback();
    connection.release();
  }
}

/** Its rows are there, and no other connection is to see them yet. */
async function waitUntilStoringWaits(): Promise<void> {
  const connection = await stores.pool.getConnection();
  try {
    await connection.query('SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED');
    await waitFor('an order that is not committed', async () => {
      const [rows] = await connection.query('SELECT order_no FROM orders WHERE sale_id = ?', [saleId]);
      return Array.isArray(rows) && rows.length > 0;
    });
  } finally {
    connection.destroy();
  }
}

test('a purchase is answered after the commit of its order, not before', async () => {
  await openSale(5, { storing: 10, timeoutMs: LONG_MS });
  const answers: string[] = [];
  let buying: Promise<void> | undefined;
  await whileStockIsLocked(async () => {
    buying = peer.accept(build()).then(({ kind }) => void answers.push(kind));
    await waitUntilStoringWaits();
    expect(answers).toEqual([]);
    expect(await peer.count(saleId)).toEqual({ taken: 1, handedOver: 0 });
  });
  await buying;
  expect(answers).toEqual(['accepted']);
  expect(await peer.count(saleId)).toEqual({ taken: 1, handedOver: 1 });
  expect(await readHeld()).toBe(1);
});

test('an order whose turn does not come in time is given up: its stock goes back, and it is never stored', async () => {
  await openSale(5, { storing: 1, timeoutMs: 50 });
  let first: Promise<unknown> | undefined;
  await whileStockIsLocked(async () => {
    first = peer.accept(build());
    await waitUntilStoringWaits();
    await expect(peer.accept(build())).rejects.toThrow('was not stored within 50 ms');
    expect(await peer.count(saleId)).toEqual({ taken: 1, handedOver: 0 });
  });
  // Its turn had come, so it is stored however long that takes.
  expect(await first).toEqual({ kind: 'accepted' });
  expect(await peer.accept(build())).toEqual({ kind: 'accepted' });
  expect(await peer.count(saleId)).toEqual({ taken: 2, handedOver: 2 });
});

test('of many at once as many are accepted as there are units, each with its rows', async () => {
  await openSale(20, { storing: 10, timeoutMs: LONG_MS });
  const outcomes = await Promise.all(Array.from({ length: 30 }, () => peer.accept(build())));
  const kinds = outcomes.map(({ kind }) => kind);
  expect(kinds.filter((kind) => kind === 'accepted')).toHaveLength(20);
  expect(kinds.filter((kind) => kind === 'sold-out')).toHaveLength(10);
  expect(await peer.count(saleId)).toEqual({ taken: 20, handedOver: 20 });
  expect(await readHeld()).toBe(20);
});

test('a repeat with the same key is answered with the first order, and takes no stock', async () => {
  await openSale(5, { storing: 10, timeoutMs: LONG_MS });
  const first = build();
  expect(await peer.accept(first)).toEqual({ kind: 'accepted' });
  const repeat = build({ userId: first.userId, idempotencyKey: first.idempotencyKey });
  expect(await peer.accept(repeat)).toEqual({ kind: 'repeated', orderNo: first.orderNo });
  expect(await peer.count(saleId)).toEqual({ taken: 1, handedOver: 1 });
});

test('clearing removes the rows of its sales', async () => {
  await openSale(5, { storing: 10, timeoutMs: LONG_MS });
  await peer.accept(build());
  await peer.clear();
  expect((await peer.count(saleId)).handedOver).toBe(0);
  expect(await readHeld()).toBeUndefined();
});
