/** The command line: parked work and money, what it prints, its exit codes, and what it opens. */

import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { type ParkedFacts, park } from '../../src/parked/parked.sql.ts';
import { orderKeys } from '../../src/redis/keys.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { openOps, type Ops } from '../support/ops.ts';
import { pay } from '../support/payment-notices.ts';
import { select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

const NOWHERE = '127.0.0.1:1';
const FACTS: ParkedFacts = { cause: 'step_failing', inputs: { step: 'Mark paid' } };
const BECAUSE = ['--reason', 'ticket 4711'];

let stores: TestStores;
let saleId: string;
let ops: Ops;
beforeAll(async () => {
  stores = await openTestStores();
  ({ saleId } = await stores.openSale(buildSale()));
  ops = openOps(stores, { TEMPORAL_ADDRESS: NOWHERE });
});
beforeEach(async () => {
  await modify(stores.pool, 'DELETE FROM parked');
  await modify(stores.pool, 'DELETE FROM audit_log');
});

async function parkOne(
  kind: 'order' | 'payment' | 'outbox_entry',
  reference: string,
  orderNo = reference,
): Promise<string> {
  await park(stores.pool, kind, reference, 'Mark paid: MySQL is away', {
    cause: 'step_failing',
    inputs: { step: 'Mark paid', orderNo },
  });
  const { parked_id } = await selectOne(stores.pool, 'SELECT parked_id FROM parked WHERE reference = ?', [
    reference,
  ]);
  return String(parked_id);
}

const logged = () => select(stores.pool, 'SELECT actor, action, reason FROM audit_log ORDER BY entry_id');

describe('parked list', () => {
  test('shows what is parked on lines that fit the terminal, while only MySQL is there', async () => {
    const alone = openOps(stores, { REDIS_URL: `redis://${NOWHERE}`, TEMPORAL_ADDRESS: NOWHERE });
    await parkOne('order', 'demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG');
    const { exitCode, out } = await alone('parked', 'list');
    expect(exitCode).toBe(0);
    expect(out).toMatch(
      /^id +kind +cause +since +times +reference\n\d+ +order +step_failing +\d s +1 +demo-0-1-/,
    );
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });

  test('names why the provider refused a refund', async () => {
    await park(
      stores.pool,
      'refund',
      'pi_1',
      'the provider refused the refund: charge_disputed: Open dispute.',
      {
        cause: 'refund_refused',
        inputs: { refusal: 'charge_disputed' },
      },
    );
    expect((await ops('parked', 'list')).out).toContain('refund_refused (charge_disputed)');
    const [entry] = await stores.parkedWork.list({ limit: 1 });
    const { out } = await ops('parked', 'show', String(entry?.parkedId));
    expect(out.replaceAll(/\s+/g, ' ')).toMatch(
      /charge_disputed: Open dispute\..*what to do mend what the provider names, then `ops parked retry`/,
    );
  });

  test('says so when nothing is parked', async () => {
    expect(await ops('parked', 'list')).toEqual({ exitCode: 0, out: 'Nothing is parked.\n', err: '' });
  });

  test('prints JSON for machines, of one kind where asked', async () => {
    await parkOne('order', 'an order');
    await parkOne('payment', 'a payment');
    const { out } = await ops('parked', 'list', '--kind', 'payment', '--json');
    expect(JSON.parse(out)).toMatchObject([
      {
        kind: 'payment',
        reference: 'a payment',
        cause: 'step_failing',
        inputs: { step: 'Mark paid' },
        times: 1,
      },
    ]);
  });

  test('names how much more there is, and shows what is resolved when asked', async () => {
    for (const reference of ['a', 'b', 'c']) await parkOne('order', reference);
    expect((await ops('parked', 'list', '--limit', '2')).out).toMatch(/ a\n.* b\n… and more/);
    await ops('parked', 'resolve', await parkOne('order', 'a'), ...BECAUSE);
    expect((await ops('parked', 'list')).out).not.toMatch(/ a\n/);
    expect((await ops('parked', 'list', '--all')).out).toMatch(/ a +resolved by operator\n/);
  });
});

describe('parked show', () => {
  test('shows cause, inputs, errors and times, and what to do', async () => {
    const id = await parkOne('order', 'an order');
    await park(stores.pool, 'order', 'an order', 'Mark paid: a deadlock', FACTS);
    const { out } = await ops('parked', 'show', id);
    expect(out).toContain(`Parked ${id}: order an order`);
    expect(out).toMatch(/cause +step_failing\n +inputs +step Mark paid, orderNo an order\n/);
    expect(out).toMatch(/reason +Mark paid: MySQL is away\n +last error +Mark paid: a deadlock\n/);
    expect(out).toMatch(/last +\d{4}-.*, 2 times in all\n/);
    expect(out).toMatch(/what to do +mend what the last error names/);
  });

  test('of what is not there says so, with exit code 1', async () => {
    const { exitCode, err } = await ops('parked', 'show', '999999');
    expect([exitCode, err]).toEqual([
      1,
      'There is no parked entry 999999; `ops parked list` shows what is parked.\n',
    ]);
  });
});

describe('an action', () => {
  test.each([
    ['parked', 'retry', '1'],
    ['parked', 'resolve', '1'],
    ['refund', '1'],
    ['refund-order', buildOrder().orderNo],
    ['return-stock', buildOrder().orderNo],
  ])('%s %s needs a reason', async (...args) => {
    const { exitCode, err } = await ops(...args);
    expect(exitCode).toBe(2);
    expect(err).toContain("required option '--reason <text>' not specified");
    expect(await logged()).toEqual([]);
  });

  test.each([
    ['--reason', ' '],
    ['--reason', 'x'.repeat(501)],
    [...BECAUSE, '--as', 'a b'],
  ])('with a reason or name that is none is refused: %s %s', async (...options) => {
    const id = await parkOne('order', 'an order');
    expect((await ops('parked', 'resolve', id, ...options)).exitCode).toBe(2);
    expect(await logged()).toEqual([]);
  });

  test('is logged under the user of the system, or under the name that was given', async () => {
    const [one, two] = [await parkOne('order', 'one'), await parkOne('order', 'two')];
    expect(await ops('parked', 'resolve', one, ...BECAUSE)).toEqual({
      exitCode: 0,
      out: `${one} is resolved.\n`,
      err: '',
    });
    await ops('parked', 'resolve', two, ...BECAUSE, '--as', 'grace');
    expect((await ops('parked', 'resolve', two, ...BECAUSE)).out).toBe(`${two} was resolved before.\n`);
    expect(await logged()).toEqual([
      { actor: 'olga', action: 'parked_resolved', reason: 'ticket 4711' },
      { actor: 'grace', action: 'parked_resolved', reason: 'ticket 4711' },
    ]);
  });
});

describe('parked retry', () => {
  test('has a stored order started before new work, and does not need Temporal for it', async () => {
    const order = buildOrder({ saleId });
    await stores.orders.storeOrder(order, 'started');
    const { exitCode, out } = await ops('parked', 'retry', await parkOne('order', order.orderNo), ...BECAUSE);
    expect(exitCode).toBe(0);
    expect(out).toMatch(/^It is due before all other work. .*could not be hurried/s);
    expect((await stores.orderClaims.take(1))[0]?.order.orderNo).toBe(order.orderNo);
  });

  test.each<[string, string, (order: Order) => Promise<unknown>]>([
    [
      'cancelled',
      'released',
      ({ orderNo }) => stores.orders.cancel(orderNo, 'payment_timeout', { force: true }),
    ],
    ['paid', 'sold', (order) => pay(stores, order)],
  ])('ends the hold of an order that is %s, and resolves the entry', async (status, hold, end) => {
    const sale = await stores.openSale(buildSale());
    const order = await acceptOrder(stores, sale.saleId);
    await stores.orders.storeOrder(order, 'started');
    await end(order);
    const { exitCode, out } = await ops('parked', 'retry', await parkOne('order', order.orderNo), ...BECAUSE);
    expect(exitCode).toBe(0);
    expect(out.replaceAll(/\s+/g, ' ')).toBe(
      `The order is ${status}. Its hold in Redis: ${hold}. The entry is resolved. `,
    );
    expect((await ops('parked', 'list')).out).toBe('Nothing is parked.\n');
    expect(await logged()).toEqual([{ actor: 'olga', action: 'parked_retried', reason: 'ticket 4711' }]);
  });

  test('says so while the data of the sale are missing, and leaves the entry of its ended order', async () => {
    const sale = await stores.openSale(buildSale());
    const order = await acceptOrder(stores, sale.saleId);
    await stores.orders.storeOrder(order, 'started');
    await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: true });
    await stores.redis.del(orderKeys(order.orderNo).sale);
    const { exitCode, out } = await ops('parked', 'retry', await parkOne('order', order.orderNo), ...BECAUSE);
    expect([exitCode, out]).toEqual([1, expect.stringMatching(/\(sale-absent\)/)]);
    expect(await logged()).toEqual([]);
  });

  test('of an ended order whose hold Redis has lost says so, and leaves the entry', async () => {
    const order = await acceptOrder(stores, saleId);
    await stores.orders.storeOrder(order, 'started');
    await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: true });
    await stores.redis.del(`holdfast:{${saleId}.0}:order:${order.orderNo}`);
    await stores.orders.parkLostHold(order.orderNo);
    const [entry] = await stores.parkedWork.list({ limit: 1 });
    expect(entry?.cause).toBe('hold_lost');
    const id = String(entry?.parkedId);
    const { exitCode, out } = await ops('parked', 'retry', id, ...BECAUSE);
    expect([exitCode, out]).toEqual([1, expect.stringMatching(/Redis has nothing to settle for it/)]);
    expect(await logged()).toEqual([]);
    expect((await ops('parked', 'list')).out).toContain(`\n${id} `);
  });

  test('puts an order back into the outbox that Redis has whole', async () => {
    const order = await acceptOrder(stores, saleId);
    await stores.redis.del(`holdfast:{${saleId}.0}:outbox`);
    const id = await parkOne('outbox_entry', `${saleId}.0/1-1`, order.orderNo);
    expect((await ops('parked', 'retry', id, ...BECAUSE)).exitCode).toBe(0);
    const entries = await stores.redis.xrange(`holdfast:{${saleId}.0}:outbox`, '-', '+');
    expect(entries.map(([, fields]) => fields)).toEqual([['order_no', order.orderNo]]);
    expect(await logged()).toEqual([{ actor: 'olga', action: 'parked_retried', reason: 'ticket 4711' }]);
  });

  test.each(['', 'nothing', buildOrder().orderNo])(
    'says so when Redis has no whole order of the entry, %s, and changes nothing',
    async (orderNo) => {
      const id = await parkOne('outbox_entry', `${saleId}.0/1-2`, orderNo);
      const { exitCode, out } = await ops('parked', 'retry', id, ...BECAUSE);
      expect([exitCode, out]).toEqual([1, expect.stringMatching(/names no order|no whole order/)]);
      expect(await logged()).toEqual([]);
      expect((await ops('parked', 'list')).out).toContain(`${saleId}.0/1-2`);
    },
  );

  test('names the store that it needs and does not reach, and changes nothing', async () => {
    const away = openOps(stores, { REDIS_URL: `redis://${NOWHERE}` });
    const id = await parkOne('outbox_entry', `${saleId}.0/1-3`, buildOrder().orderNo);
    const { exitCode, err } = await away('parked', 'retry', id, ...BECAUSE);
    expect([exitCode, err]).toEqual([1, expect.stringContaining(`Redis is not reachable at ${NOWHERE}`)]);
    expect(await logged()).toEqual([]);
  });
});

describe('money', () => {
  test('goes back on request, with the reason in the log', async () => {
    await stores.payments.record('sandbox', {
      providerPaymentId: 'p-1',
      orderNo: 'no order',
      amount: 100,
      currency: 'EUR',
      signedOrder: null,
    });
    const { payment_id: id } = await selectOne(
      stores.pool,
      "SELECT payment_id FROM payments WHERE provider_payment_id = 'p-1'",
    );
    expect((await ops('refund', String(id), ...BECAUSE)).out).toContain(`Payment ${String(id)} goes back`);
    expect(await logged()).toEqual([{ actor: 'olga', action: 'refund_requested', reason: 'ticket 4711' }]);
    expect((await ops('parked', 'list')).out).toBe('Nothing is parked.\n');
    expect((await ops('refund', '999999', ...BECAUSE)).err).toBe('There is no payment 999999.\n');
  });

  test('units of an order whose money did not go back stay sold', async () => {
    const order = buildOrder({ saleId });
    await stores.orders.storeOrder(order, 'started');
    const { exitCode, err } = await ops('return-stock', order.orderNo, ...BECAUSE);
    expect([exitCode, err]).toEqual([1, 'Only what was paid and refunded can be sold again.\n']);
  });
});

describe('what cannot be done', () => {
  test.each([
    [['parked', 'show', 'seven'], 'whole number'],
    [['parked', 'list', '--kind', 'sales'], 'Allowed choices are payment, refund, order, outbox_entry'],
    [['return-stock', 'nope', ...BECAUSE], 'It looks like demo-0-1-'],
    [['park'], "unknown command 'park'"],
    [['parked', 'list', '--verbose'], "unknown option '--verbose'"],
  ])('is explained, with exit code 2: %j', async (args, text) => {
    const { exitCode, err } = await ops(...args);
    expect(exitCode).toBe(2);
    expect(err).toContain(text);
  });

  test('is a MySQL that does not answer: exit code 1, and no password', async () => {
    const away = openOps(stores, { MYSQL_URL: `mysql://root:secret@${NOWHERE}/holdfast` });
    const { exitCode, err } = await away('parked', 'list');
    expect([exitCode, err]).toEqual([1, expect.stringMatching(/^MySQL cannot be reached.*ECONNREFUSED/)]);
    expect(err).not.toContain('secret');
  });

  test('is an environment with faults: exit code 2, and each is named', async () => {
    const { exitCode, err } = await openOps(stores, { MYSQL_URL: 'nope', WEBHOOK_SECRETS: '' })(
      'parked',
      'list',
    );
    expect(exitCode).toBe(2);
    expect(err).toMatch(/MYSQL_URL: .*\n.*WEBHOOK_SECRETS: /s);
  });
});

describe('help', () => {
  test.each([[[]], [['parked']], [['--help']], [['parked', 'retry', '--help']], [['refund', '--help']]])(
    'needs no environment and fits the terminal: %j',
    async (args) => {
      const { exitCode, out, err } = await openOps(stores, { MYSQL_URL: 'nope' })(...args);
      expect(exitCode).toBe(args.includes('--help') ? 0 : 2);
      expect(out + err).toMatch(/^Usage: ops /);
      for (const line of (out + err).split('\n')) expect(line.length).toBeLessThanOrEqual(80);
    },
  );

  test.each([
    ['parked', 'list'],
    ['parked', 'show'],
    ['parked', 'retry'],
    ['parked', 'resolve'],
    ['refund'],
    ['refund-order'],
    ['settlement'],
    ['return-stock'],
    ['token'],
  ])('shows an example: %s %s', async (...args) => {
    expect((await ops(...args.filter((arg) => arg !== undefined), '--help')).out).toMatch(
      /Examples?:\n  ops /,
    );
  });
});
