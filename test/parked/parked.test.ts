/** What becomes parked has an event, written with it. */

import { beforeAll, expect, test } from 'vitest';
import { type ParkedFacts, park, parkAnew, unpark } from '../../src/parked/parked.sql.ts';
import { buildOrder } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const failing = (step: string): ParkedFacts => ({ cause: 'step_failing', inputs: { step } });

async function readEvents(reference: string): Promise<Record<string, unknown>[]> {
  const rows = await select(
    stores.pool,
    'SELECT type, sale_id, data FROM shop_events WHERE INSTR(data, ?) > 0 ORDER BY event_id',
    [reference],
  );
  return rows.map(({ data, ...row }) => ({ ...row, ...JSON.parse(String(data)) }));
}

test('what becomes parked has one event with its cause, its sentence and order, however often it fails', async () => {
  const { orderNo, saleId } = buildOrder();
  await park(stores.pool, 'order', orderNo, 'it fails', failing('mark paid'));
  await park(stores.pool, 'order', orderNo, 'it fails otherwise', failing('mark paid'));
  await parkAnew(stores.pool, 'order', orderNo, 'it is another matter', failing('cancel'));

  expect(await readEvents(orderNo)).toEqual([
    {
      type: 'parked.opened',
      sale_id: saleId,
      parked: {
        parkedId: expect.any(Number),
        kind: 'order',
        reference: orderNo,
        cause: 'step_failing',
        reason: 'a step of the order or the refund keeps failing, and is tried again',
        inputs: { step: 'mark paid' },
        orderNo,
      },
    },
  ]);
});

test('the event says nothing of what an error names; the entry has it for operators', async () => {
  const { orderNo } = buildOrder();
  const error = 'mark paid: connect ECONNREFUSED 10.0.0.3:3306';
  await park(stores.pool, 'order', orderNo, error, failing('mark paid'));

  const events = await readEvents(orderNo);
  expect(events).toHaveLength(1);
  expect(JSON.stringify(events)).not.toMatch(/10\.0\.0\.3|ECONNREFUSED/);
  const entries = await stores.parkedWork.list({ limit: 100 });
  expect(entries.find(({ reference }) => reference === orderNo)).toMatchObject({ reason: error });
});

test('what is parked again after it was settled has another event', async () => {
  const { orderNo } = buildOrder();
  for (const reason of ['first', 'second']) {
    await park(stores.pool, 'order', orderNo, reason, failing(reason));
    await unpark(stores.pool, 'order', orderNo);
  }
  expect(await readEvents(orderNo)).toMatchObject([
    { parked: { inputs: { step: 'first' } } },
    { parked: { inputs: { step: 'second' } } },
  ]);
});

test('what an operator has settled has no further event while its facts stay', async () => {
  const { orderNo } = buildOrder();
  await park(stores.pool, 'order', orderNo, 'it fails', failing('a'));
  const [entry] = (await stores.parkedWork.list({ limit: 1_000 })).filter((e) => e.reference === orderNo);
  await stores.parkedWork.resolve(entry?.parkedId ?? 0, { actor: 'ada', reason: 'seen' });

  await park(stores.pool, 'order', orderNo, 'it fails', failing('a'));
  expect(await readEvents(orderNo)).toHaveLength(1);
  await park(stores.pool, 'order', orderNo, 'it fails', failing('b'));
  expect(await readEvents(orderNo)).toHaveLength(2);
});

test('of many that park the same at once one writes the event', async () => {
  const reference = `sale-${buildOrder().orderNo}`;
  const facts: ParkedFacts = { cause: 'stock_unexplained', inputs: { saleId: 'summer', sku: 'ticket' } };
  await Promise.all(Array.from({ length: 12 }, () => park(stores.pool, 'sale', reference, 'why', facts)));

  expect(await readEvents(reference)).toMatchObject([{ sale_id: 'summer', parked: { kind: 'sale' } }]);
});

test('a payment that names no order of ours has an event without an order and without a sale', async () => {
  const facts: ParkedFacts = { cause: 'no_order_named', inputs: { orderNo: 'rent 12', amount: 4_900 } };
  await park(stores.pool, 'payment', 'pay_rent_12', 'it names no order', facts);

  const [event] = await readEvents('pay_rent_12');
  expect(event).toMatchObject({ sale_id: null, parked: { inputs: { orderNo: 'rent 12' } } });
  expect(event?.['parked']).not.toHaveProperty('orderNo');
});

test('a rolled back parking leaves no event', async () => {
  const { orderNo } = buildOrder();
  const connection = await stores.pool.getConnection();
  await connection.beginTransaction();
  await park(connection, 'order', orderNo, 'it fails', failing('a'));
  await connection.rollback();
  connection.release();
  expect(await readEvents(orderNo)).toEqual([]);
});
