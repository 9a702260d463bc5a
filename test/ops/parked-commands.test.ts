/** The command line: parked work, money and the log, what it prints, its exit codes, and what it calls. */

import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { signToken } from '../../src/api/http/auth.ts';
import { modify } from '../../src/mysql/connection.ts';
import { type ParkedFacts, park } from '../../src/parked/parked.sql.ts';
import { openApi, type TestApi } from '../api/open-api.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { openOps, type Ops } from '../support/ops.ts';
import { select, selectOne } from '../support/rows.ts';
import { JWT_SECRET } from '../support/shopper.ts';
import type { TestStores } from '../support/stores.ts';

const NOWHERE = '127.0.0.1:1';
const FACTS: ParkedFacts = { cause: 'step_failing', inputs: { step: 'Mark paid' } };
const BECAUSE = ['--reason', 'ticket 4711'];

let api: TestApi;
let stores: TestStores;
let saleId: string;
let ops: Ops;
beforeAll(async () => {
  api = await openApi();
  ({ stores } = api);
  ({ saleId } = await stores.openSale(buildSale()));
  ops = openOps(stores, { HOLDFAST_URL: api.url });
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
  test('shows what is parked on lines that fit the terminal', async () => {
    await parkOne('order', 'demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG');
    const { exitCode, out } = await ops('parked', 'list');
    expect(exitCode).toBe(0);
    expect(out).toMatch(
      /^id +kind +cause +since +times +reference +now\n\d+ +order +step_failing +\d s +1 +demo-0-1-/,
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
      /charge_disputed: Open dispute\..*what to do Mend what the provider names, then retry\./,
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

  test('says that there is more, and shows what is resolved when asked', async () => {
    for (const reference of ['a', 'b', 'c']) await parkOne('order', reference);
    expect((await ops('parked', 'list', '--limit', '2')).out).toMatch(/ a +parked\n.* b +parked\n… and more/);
    await ops('parked', 'resolve', await parkOne('order', 'a'), ...BECAUSE);
    expect((await ops('parked', 'list')).out).not.toMatch(/ a +parked\n/);
    expect((await ops('parked', 'list', '--resolved')).out).toMatch(/ a +resolved by operator\n/);
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
    expect(out).toMatch(/what to do +Mend what the last error\s+names/);
  });

  test('of what is not there says so, with exit code 1', async () => {
    const { exitCode, err } = await ops('parked', 'show', '999999');
    expect([exitCode, err]).toEqual([1, 'There is no such parked entry.\n']);
  });
});

describe('an action', () => {
  test.each([
    ['parked', 'retry', '1'],
    ['parked', 'resolve', '1'],
    ['refund', '1'],
    ['refund-order', buildOrder().orderNo],
    ['return-stock', buildOrder().orderNo],
    ['reconcile'],
    ['rebuild', 'summer'],
  ])('%s %s needs a reason', async (...args) => {
    const { exitCode, err } = await ops(...args);
    expect(exitCode).toBe(2);
    expect(err).toContain("required option '--reason <text>' not specified");
    expect(await logged()).toEqual([]);
  });

  test.each([
    ['--reason', ' '],
    ['--reason', 'x'.repeat(501)],
  ])('with a reason that is none is refused: %s %s', async (...options) => {
    const id = await parkOne('order', 'an order');
    expect((await ops('parked', 'resolve', id, ...options)).exitCode).toBe(2);
    expect(await logged()).toEqual([]);
  });

  test('is logged under the subject of the token', async () => {
    const id = await parkOne('order', 'one');
    expect(await ops('parked', 'resolve', id, ...BECAUSE)).toEqual({
      exitCode: 0,
      out: `${id} is resolved.\n`,
      err: '',
    });
    expect(await logged()).toEqual([{ actor: 'olga', action: 'parked_resolved', reason: 'ticket 4711' }]);
  });
});

describe('parked retry', () => {
  test('has a stored order started before new work', async () => {
    const order = buildOrder({ saleId });
    await stores.orders.storeOrder(order, 'started');
    const { exitCode, out } = await ops('parked', 'retry', await parkOne('order', order.orderNo), ...BECAUSE);
    expect([exitCode, out]).toEqual([0, expect.stringMatching(/^It is due before all other work/)]);
    expect((await stores.orderClaims.take(1))[0]?.order.orderNo).toBe(order.orderNo);
  });

  test('that changes nothing says why, with exit code 1', async () => {
    const id = await parkOne('outbox_entry', `${saleId}.0/1-2`, 'nothing');
    const { exitCode, err } = await ops('parked', 'retry', id, ...BECAUSE);
    expect([exitCode, err]).toEqual([1, expect.stringMatching(/^No whole order is left/)]);
    expect(await logged()).toEqual([]);
  });
});

describe('log', () => {
  test('shows what was decided, by whom and why', async () => {
    const [one, two] = [await parkOne('order', 'one'), await parkOne('order', 'two')];
    for (const id of [one, two]) await ops('parked', 'resolve', id, ...BECAUSE);
    const { out } = await ops('log', '--actor', 'olga', '--limit', '1');
    expect(out).toMatch(
      /^time \(UTC\) +who +did +to +because\n\d{4}-.* olga +parked_resolved +two +ticket 4711\n$/,
    );
    expect((await ops('log', '--subject', 'one')).out).toMatch(/ one +ticket 4711\n$/);
    expect(JSON.parse((await ops('log', '--json')).out)).toHaveLength(2);
    expect((await ops('log', '--since', 'yesterday')).exitCode).toBe(2);
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
    expect((await ops('refund', '999999', ...BECAUSE)).err).toBe('There is no such payment.\n');
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

  test('is an API that does not answer: exit code 1, and no token', async () => {
    const away = openOps(stores, { HOLDFAST_URL: `http://${NOWHERE}`, HOLDFAST_TOKEN: 'a-secret-token' });
    const { exitCode, err } = await away('parked', 'list');
    expect([exitCode, err]).toEqual([1, expect.stringMatching(/^The API does not answer at http.*/)]);
    expect(err).not.toContain('secret');
  });

  test('is a token of too few rights: exit code 1, and the scope is named', async () => {
    const HOLDFAST_TOKEN = await signToken(JWT_SECRET, 'vera', '1h', { roles: ['viewer'] });
    const viewer = openOps(stores, { HOLDFAST_URL: api.url, HOLDFAST_TOKEN });
    const { exitCode, err } = await viewer('parked', 'retry', '1', ...BECAUSE);
    expect([exitCode, err]).toEqual([1, expect.stringContaining('scope parked:write')]);
  });

  test('is an environment with faults: exit code 2, and each is named', async () => {
    const env = { HOLDFAST_URL: 'nope', HOLDFAST_TOKEN: '' };
    const { exitCode, err } = await openOps(stores, env)('parked', 'list');
    expect(exitCode).toBe(2);
    expect(err).toMatch(/HOLDFAST_URL: .*\n.*HOLDFAST_TOKEN: /s);
    const servers = await openOps(stores, { MYSQL_URL: 'nope', WEBHOOK_SECRETS: '' })('status');
    expect(servers.exitCode).toBe(2);
    expect(servers.err).toMatch(/MYSQL_URL: .*\n.*WEBHOOK_SECRETS: /s);
  });
});

describe('help', () => {
  test.each([[[]], [['parked']], [['--help']], [['parked', 'retry', '--help']], [['refund', '--help']]])(
    'needs no environment and fits the terminal: %j',
    async (args) => {
      const { exitCode, out, err } = await openOps(stores, { MYSQL_URL: 'nope', HOLDFAST_URL: 'nope' })(
        ...args,
      );
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
    ['reconcile'],
    ['rebuild'],
    ['log'],
    ['token'],
  ])('shows an example: %s %s', async (...args) => {
    expect((await ops(...args.filter((arg) => arg !== undefined), '--help')).out).toMatch(
      /Examples?:\n  ops /,
    );
  });
});
