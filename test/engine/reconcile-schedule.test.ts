/** The schedule's calls while Temporal does not answer. */

import { createServer } from 'node:net';
import { Client, Connection } from '@temporalio/client';
import { expect, onTestFinished, test } from 'vitest';
import { ensureSchedule } from '../../src/engine/reconcile-schedule.ts';
import { findFreePort } from '../../stack/processes/ports.ts';

test('a process that stops does not wait for a Temporal that does not answer', async () => {
  const port = await findFreePort();
  const server = createServer().listen(port, '127.0.0.1');
  const connection = Connection.lazy({ address: `127.0.0.1:${port}` });
  onTestFinished(async () => {
    await connection.close();
    server.close();
  });
  const stopping = new AbortController();

  const ensured = ensureSchedule(
    new Client({ connection }),
    { everyMs: 60_000, taskQueue: 'orders', deployment: { id: '0b1c', name: 'holdfast' } },
    stopping.signal,
  );
  stopping.abort();

  await expect(ensured).rejects.toThrow('not waited for any longer');
});
