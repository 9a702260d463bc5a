/**
 * The sandbox provider's console: what it does there, and how it fails when the sandbox refuses, fails or is
 * away.
 */

import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { openConsole } from '../../sandbox/console.ts';
import { createSandboxProvider } from '../../sandbox/server.ts';

const API_KEY = 'console-test-api-key';
const REFERENCE = 'summer-0-1-01JD0000000000000000000000';
const STRAY = { reference: REFERENCE, amount: 4_900 };
/** Nothing listens there. */
const NO_SERVER = 'http://127.0.0.1:9';

async function startSandbox(): Promise<string> {
  const sandbox = await createSandboxProvider({
    host: '127.0.0.1',
    apiKey: API_KEY,
    webhookUrl: `${NO_SERVER}/v1/webhooks/payments`,
    webhookSecret: 'whsec_aG9sZGZhc3QtY29uc29sZS10ZXN0LTAwMDAwMDE=',
    retryDelaysMs: [],
    logger: pino({ level: 'silent' }),
  }).start(0);
  onTestFinished(() => sandbox.stop());
  return sandbox.url;
}

async function startServer(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return `http://127.0.0.1:${address.port}`;
}

test('a stray payment is listed under its order, with what refunds and lost disputes returned of it', async () => {
  const staff = openConsole({ url: await startSandbox(), apiKey: API_KEY });
  const payment = await staff.takeStrayPayment(STRAY);
  await staff.takeStrayPayment({ ...STRAY, reference: 'another order', currency: 'USD' });

  expect(await staff.refund(payment.id, 900)).toMatchObject({ kind: 'refund', amount: 900 });
  const dispute = await staff.openDispute(payment.id);
  expect((await staff.listPayments(REFERENCE))[0]).toMatchObject({ disputed: true, returned: 900 });
  await staff.closeDispute(dispute.id, { won: false });

  expect(await staff.listPayments(REFERENCE)).toMatchObject([
    { id: payment.id, disputed: false, returned: 4_900 },
  ]);
  expect((await staff.listPayments()).map(({ currency }) => currency)).toEqual(['EUR', 'USD']);
});

test('a refund that failed is not counted as returned', async () => {
  const staff = openConsole({ url: await startSandbox(), apiKey: API_KEY });
  const { id } = await staff.refund((await staff.takeStrayPayment(STRAY)).id);

  expect(await staff.failRefund(id)).toMatchObject({ id, status: 'failed' });

  expect(await staff.listPayments(REFERENCE)).toMatchObject([{ returned: 0 }]);
});

test('mischief holds while the work runs, and is off afterwards though the work failed', async () => {
  const staff = openConsole({ url: await startSandbox(), apiKey: API_KEY });

  const work = staff.withMischief({ drop: 1 }, async () => {
    expect((await staff.readMischief()).settings.drop).toBe(1);
    throw new Error('the work failed');
  });

  await expect(work).rejects.toThrow('the work failed');
  expect((await staff.readMischief()).settings.drop).toBe(0);
});

test("a refusal is an error with the sandbox's code, and is not repeated", async () => {
  const staff = openConsole({ url: await startSandbox(), apiKey: API_KEY, patienceMs: 60_000 });
  const { id } = await staff.takeStrayPayment(STRAY);

  await expect(staff.refund(id, 4_901)).rejects.toMatchObject({
    name: 'ConsoleRefusedError',
    code: 'refund_exceeds_payment',
    message: `the sandbox answered 409 (refund_exceeds_payment) to POST v1/test/payments/${id}/refund`,
  });
  await expect(staff.readSession('ps_unknown')).rejects.toMatchObject({ code: 'not_found' });
});

test.each([
  ['fails', (): Promise<string> => startServer((_, response) => response.writeHead(503).end('{}')), '503'],
  ['is away', (): Promise<string> => Promise.resolve(NO_SERVER), 'does not answer'],
])('without patience a call fails at once when the sandbox %s', async (_, start, message) => {
  const staff = openConsole({ url: await start(), apiKey: API_KEY });

  await expect(staff.readMischief()).rejects.toThrow(message);
});

test('with patience a call is repeated through faults of the sandbox', async () => {
  const answers = [500, 'no answer', 200] as const;
  let calls = 0;
  const url = await startServer((_, response) => {
    const answer = answers[calls];
    calls += 1;
    if (typeof answer === 'number') response.writeHead(answer).end('{"data":[],"next_cursor":null}');
    else response.destroy();
  });

  expect(await openConsole({ url, apiKey: API_KEY, patienceMs: 60_000 }).listPayments()).toEqual([]);

  expect(calls).toBe(answers.length);
});
