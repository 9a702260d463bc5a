/**
 * Every statement of push, on a hundred thousand deliveries: it reads about as many rows as it returns or
 * changes, and never more than what waits for the endpoint.
 */

import { beforeAll, expect, test } from 'vitest';
import { inTransaction, modify } from '../../../src/mysql/connection.ts';
import { createSecret } from '../../../src/push/deliverer.ts';
import { type Claim, MAX_PUSHES_IN_FLIGHT } from '../../../src/push/deliveries.sql.ts';
import { PUSH_WINDOW } from '../../../src/push/endpoints.sql.ts';
import { retryParkedDelivery } from '../../../src/push/replays.sql.ts';
import { mysqlStores } from '../../../src/stores/bound.ts';
import { openTestStores, type TestStores } from '../../support/stores.ts';
import { measuredPool, type Measured } from './measured-pool.ts';

/** Rows of a statement about one delivery, or about the few endpoints that there are. */
const FEW = 80;
/** For each row of a batch: it is found, read, and changed in an index or two. */
const PER_ROW = 4;
const ENDPOINTS = 5;
/** Of each endpoint: what waits, of one sale and behind others of its order, and what ended long ago. */
const DELIVERIES = { waiting: 4_000, delivered: 15_000, parked: 1_000 };
const ORDERS_WAITING = 1_000;
/** Of the deliveries that are due it is one of the last. */
const OF_ANOTHER_SALE = 1_990;

let stores: TestStores;
let endpointId: number;

const DIGITS = `(${Array.from({ length: 10 }, (_, digit) => `SELECT ${digit} AS d`).join(' UNION ALL ')})`;
/** The numbers below 20,000. */
const NUMBERS = `(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d AS i
  FROM ${DIGITS} a, ${DIGITS} b, ${DIGITS} c, ${DIGITS} e, ${DIGITS} f WHERE f.d < 2)`;

beforeAll(async () => {
  stores = await openTestStores();
  for (let i = 0; i < ENDPOINTS; i += 1) {
    const terms = { url: 'https://office.shop.example/', types: null, saleId: null, description: '' };
    await stores.endpoints.put(`office-${i}`, terms, createSecret(), 'ada');
  }
  const { waiting, delivered } = DELIVERIES;
  await stores.pool.query(
    `INSERT INTO push_deliveries (endpoint_id, event_id, sequence, line, turn, status, due_at, ended_at)
     SELECT e.endpoint_id, CONCAT('order-', n.i, '.1'), n.i + 1,
       CASE WHEN n.i < 1000 THEN 'a-sale' WHEN n.i < ? THEN CONCAT('order-', n.i % ?)
         ELSE CONCAT('order-', n.i) END,
       IF(n.i = ?, 'z-sale', 'a-sale'),
       CASE WHEN n.i < ? THEN 'waiting' WHEN n.i < ? THEN 'delivered' ELSE 'parked' END,
       IF(n.i = 0 OR n.i BETWEEN 1000 AND 1999, NOW(3) - INTERVAL 20000 - n.i SECOND, NULL),
       IF(n.i < ?, NULL, NOW(3))
     FROM push_endpoints e CROSS JOIN ${NUMBERS} n ORDER BY n.i`,
    [waiting, ORDERS_WAITING, OF_ANOTHER_SALE, waiting, waiting + delivered, waiting],
  );
  for (const table of ['push_deliveries', 'push_endpoints'])
    await stores.pool.query(`ANALYZE TABLE ${table}`);
  endpointId = (await stores.endpoints.read('office-2'))?.endpointId ?? 0;
}, 240_000);

function measuredStores(seen: (measured: Measured) => void) {
  const pool = measuredPool(stores.pool, seen);
  return { pool, ...mysqlStores(pool) };
}

type Call = (stores: ReturnType<typeof measuredStores>) => Promise<unknown>;

async function takeSome({ deliveries }: ReturnType<typeof measuredStores>): Promise<Claim> {
  const claim = await deliveries.take(endpointId);
  if (!claim) throw new Error('nothing was due');
  return claim;
}

const PAUSES = { retryMs: 60_000, askedMs: 0, probeMs: () => 0 };
const endClaims = () =>
  modify(stores.pool, 'UPDATE push_deliveries SET claimed_until = NULL WHERE endpoint_id = ?', [endpointId]);

const some = (first: number, count: number) =>
  Array.from({ length: count }, (_, i) => ({
    eventId: `order-${first + i}.2`,
    sequence: first + i,
    line: `order-${first + i}`,
  }));

/** With the rows that each statement may read. */
const CALLS: Record<string, [limit: number, call: Call]> = {
  'endpoints: listBusy': [FEW, ({ endpoints }) => endpoints.listBusy()],
  'deliveryClaims: take, complete, fail, park': [
    FEW,
    async (measured) => {
      const [first, second, third, fourth] = (await takeSome(measured)).deliveries;
      if (!first || !second || !third || !fourth) throw new Error('too few were due');
      const { complete, fail, park } = measured.deliveries;
      expect(await complete(first)).toBe(true);
      await fail(second, 'answered 500', PAUSES);
      await fail({ ...third, isDue: false }, 'answered 500', PAUSES);
      expect(await park(fourth, 'the event is not there any more')).toBe(true);
      await endClaims();
    },
  ],
  'deliveryClaims: take, after a sale with many and before it': [
    FEW,
    async ({ deliveries }) => {
      const claim = await deliveries.take(endpointId, 'a-sale');
      expect(claim?.deliveries[0]?.eventId).toBe(`order-${OF_ANOTHER_SALE}.1`);
      expect(claim?.deliveries).toHaveLength(MAX_PUSHES_IN_FLIGHT);
      await endClaims();
    },
  ],
  'deliveryClaims: a claim while the endpoint is down, and that it is gone': [
    FEW,
    async (measured) => {
      await modify(stores.pool, 'UPDATE push_endpoints SET failures = 5 WHERE endpoint_id = ?', [endpointId]);
      for (const delivery of (await takeSome(measured)).deliveries) {
        expect(delivery.isProbe).toBe(true);
        await measured.deliveries.disableGone(delivery);
      }
      await stores.endpoints.enable('office-2', 'ada');
    },
  ],
  'endpoints: listBusy, while endpoints have failed': [
    FEW,
    async ({ endpoints }) => {
      await modify(stores.pool, 'UPDATE push_endpoints SET failures = 1, probe_at = NOW(3)');
      await endpoints.listBusy();
    },
  ],
  'endpoints: listBusy, while nothing is due': [
    ENDPOINTS * PUSH_WINDOW,
    async ({ endpoints }) => {
      await modify(stores.pool, 'UPDATE push_endpoints SET failures = 0');
      const postpone = 'UPDATE push_deliveries SET due_at = due_at + INTERVAL ? DAY WHERE due_at IS NOT NULL';
      await modify(stores.pool, postpone, [1]);
      expect(await endpoints.listBusy()).toEqual([]);
      await modify(stores.pool, postpone, [-1]);
      await modify(stores.pool, 'UPDATE push_endpoints SET failures = 1');
    },
  ],
  'endpointHealth: noteSuccess, which hurries what waits': [
    PUSH_WINDOW * PER_ROW,
    ({ deliveries }) => deliveries.noteSuccess(endpointId),
  ],
  'endpoints: readCursor': [PUSH_WINDOW, ({ endpoints }) => endpoints.readCursor(endpointId)],
  'endpoints: advance': [
    200 * PER_ROW,
    ({ endpoints }) => endpoints.advance(endpointId, { from: 0, to: 200 }, some(3_900, 200)),
  ],
  'replays: replay': [200 * PER_ROW, ({ replays }) => replays.replay('office-2', some(4_100, 200), 'ada')],
  'replays: test': [FEW, ({ replays }) => replays.test('office-2', 'test.1')],
  'replays: a parked delivery is retried': [
    FEW,
    ({ pool }) =>
      inTransaction(pool, async (connection) => {
        expect(await retryParkedDelivery(connection, 'office-2/order-19500.1')).toBe(true);
      }),
  ],
  'deliveryList: list by status': [
    2 * PER_ROW * 100,
    ({ deliveries }) => deliveries.list(endpointId, { status: 'delivered' }, { after: 0, limit: 100 }),
  ],
  'deliveryList: list by order': [
    FEW,
    ({ deliveries }) => deliveries.list(endpointId, { line: 'order-7' }, { after: 0, limit: 100 }),
  ],
  'deliveryList: one with its tries, and those of an order at all endpoints': [
    FEW,
    async ({ deliveries }) => {
      const [first] = await deliveries.list(endpointId, { line: 'order-7' }, { after: 0, limit: 1 });
      await deliveries.read(endpointId, first?.deliveryId ?? 0);
      await deliveries.listOfLine('order-7');
    },
  ],
  'endpoints: list': [ENDPOINTS * PUSH_WINDOW, ({ endpoints }) => endpoints.list()],
  'endpoints: remove': [FEW, ({ endpoints }) => endpoints.remove('office-4', 'ada')],
  'endpoints: deleteRemoved': [500 * PER_ROW, ({ endpoints }) => endpoints.deleteRemoved()],
  'retention: deleteDeliveries': [FEW, ({ retention }) => retention.deleteDeliveries(60_000)],
};

test.each(Object.entries(CALLS))('push reads no more than it needs: %s', async (name, [limit, call]) => {
  const measured: Measured[] = [];
  await call(measuredStores((one) => measured.push(one)));
  console.log([name, ...measured.map(({ rows, plan, sql }) => `  ${rows} rows [${plan}] ${sql}`)].join('\n'));
  expect(measured.filter(({ rows }) => rows > limit)).toEqual([]);
});
