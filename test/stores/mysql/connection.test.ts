/** The MySQL pool: a server that falls silent makes calls fail in bounded time. */

import { inject, expect, test, type TestContext } from 'vitest';
import {
  createMysqlPool,
  inTransaction,
  isUnavailable,
  modify,
} from '../../../src/stores/mysql/connection.ts';
import { openTcpProxy } from '../../support/tcp-proxy.ts';

/** A pool whose wire to MySQL a test can freeze: nothing comes through, and neither side is notified. */
async function openFreezable({ onTestFinished }: TestContext) {
  const url = new URL(inject('mysqlUrl'));
  const wire = await openTcpProxy(url.host);
  url.host = wire.address;
  const pool = createMysqlPool(url.href);
  onTestFinished(() => wire.close());
  return { pool, wire };
}

// Side by side, because each waits for the bound on a statement, which is seconds.
test.concurrent('a transaction whose server falls silent fails in bounded time, even when the connection breaks later', async (context) => {
  const { pool, wire } = await openFreezable(context);
  const failed = inTransaction(pool, async (connection) => {
    await modify(connection, 'DO 1');
    wire.freeze();
    await modify(connection, 'DO 2');
  }).catch((error: unknown) => error);
  expect(isUnavailable(await failed)).toBe(true);
  // The pool goes on with another connection.
  await expect(modify(pool, 'DO 3')).resolves.toBe(0);
});

test.concurrent('a single statement whose server falls silent fails in bounded time, too', async (context) => {
  const { pool, wire } = await openFreezable(context);
  await modify(pool, 'DO 1');
  wire.freeze();
  const failed = modify(pool, 'DO 2').catch((error: unknown) => error);
  expect(isUnavailable(await failed)).toBe(true);
  await expect(modify(pool, 'DO 3')).resolves.toBe(0);
});
