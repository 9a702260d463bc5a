/** The client on the whole service: a purchase, the lines of the README, and the back office's feed. */

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { solveChallenge } from 'altcha-lib';
import { deriveKey } from 'altcha-lib/algorithms/scrypt';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { createAdmin } from '../../packages/client/src/admin.ts';
import { createClient } from '../../packages/client/src/index.ts';
import { signToken } from '../../src/api/http/auth.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { JWT_SECRET, pressPay } from '../support/shopper.ts';

const run = promisify(execFile);
let checkout: Checkout;

beforeAll(async () => {
  checkout = await openCheckout();
});

async function openClient(scope?: string) {
  const token = await signToken(
    JWT_SECRET,
    `user-${crypto.randomUUID()}`,
    '1h',
    scope === undefined ? {} : { scope },
  );
  return { url: checkout.url, token };
}

test('an order is placed, followed, paid and read', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const client = createClient(await openClient());
  const key = crypto.randomUUID();
  const cart = { saleId, items: [{ sku: 'lamp', quantity: 2 }] };
  const placed = await client.place(cart, { idempotencyKey: key });
  expect((await client.place(cart, { idempotencyKey: key })).orderNo).toBe(placed.orderNo);

  const { url } = await client.pay(placed.orderNo);
  const statuses: string[] = [];
  for await (const { status } of client.watch(placed.orderNo)) {
    if (statuses.length === 0) await pressPay(url);
    statuses.push(status);
  }
  expect(statuses.at(-1)).toBe('paid');
  expect(await client.order(placed.orderNo)).toMatchObject({ status: 'paid', total: 9_800 });
  expect((await client.sale(saleId)).skus.map(({ sku }) => sku)).toEqual(['lamp', 'mug']);
  await expect(client.cancel(placed.orderNo)).rejects.toMatchObject({ status: 409, code: 'already_paid' });
});

test('orders are listed by their numbers and by their sale, page by page', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const client = createClient(await openClient());
  const cart = { saleId, items: [{ sku: 'mug', quantity: 1 }] };
  const orderNos = [(await client.place(cart)).orderNo, (await client.place(cart)).orderNo];
  const never = `${saleId}-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG`;

  const found = await client.orders({ orderNos: [...orderNos, never] });
  expect(found.orders.map(({ orderNo }) => orderNo)).toEqual(orderNos);
  expect(found).toMatchObject({ complete: true, unknown: [never] });

  const first = await client.orders({ saleId, limit: 1 });
  const second = await client.orders({ saleId, limit: 1, after: first.next ?? '' });
  expect([...first.orders, ...second.orders].map(({ orderNo }) => orderNo)).toEqual(orderNos);
});

test('a purchase that waits is stored, and a cancel is waited for', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const client = createClient(await openClient());
  const cart = { saleId, items: [{ sku: 'mug', quantity: 1 }] };
  const { orderNo, status } = await client.place(cart, { waitSeconds: 7 });
  expect(status).toBe('awaiting_payment');
  await client.cancel(orderNo);
  expect((await client.wait(orderNo)).status).toBe('cancelled');
});

test('where a sale asks for work, a challenge is solved for the ticket of one order', async () => {
  const verification = { kind: 'proof_of_work', costKib: 64, aheadMs: 0 } as const;
  const { saleId } = await checkout.stores.openSale(buildSale({ verification }));
  const client = createClient(await openClient());
  expect((await client.sale(saleId)).verification).toEqual(verification);
  const cart = { saleId, items: [{ sku: 'mug', quantity: 1 }] };
  await expect(client.place(cart)).rejects.toMatchObject({ status: 403, code: 'ticket_required' });

  const challenge = await client.challenge(saleId);
  const solution = await solveChallenge({ challenge: { ...challenge }, deriveKey });
  const payload = Buffer.from(JSON.stringify({ challenge, solution })).toString('base64');
  const { ticket } = await client.ticket(saleId, payload);
  const { orderNo } = await client.place({ ...cart, ticket });
  await expect(client.place({ ...cart, ticket })).rejects.toMatchObject({
    code: 'ticket_used',
    problem: { orderNo },
  });
});

test('the back office reads its feed, and goes on after what it has handled', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = createClient(await openClient());
  const admin = createAdmin(await openClient('events:read events:write sales:read'));
  const { orderNo } = await shopper.place({ saleId, items: [{ sku: 'mug', quantity: 1 }] });
  await pressPay((await shopper.pay(orderNo)).url);

  const consumer = `c-${saleId}`;
  const read = async (type: 'order.paid') => {
    for await (const events of admin.feed({ consumer, types: [type], saleId }))
      for (const event of events) if (event.type === type) return event;
    return undefined;
  };
  // Broken off in the middle of a page, it comes again.
  const first = await read('order.paid');
  const again = await read('order.paid');
  expect(again?.id).toBe(first?.id);
  expect(JSON.stringify(first)).toContain(orderNo);
  expect((await admin.getShopSale(saleId)).data.saleId).toBe(saleId);
});

test("the README's lines run as printed from an empty folder, and buy", async () => {
  await checkout.stores.openSale(buildSale({ saleId: 'demo' }));
  const readme = await readFile(join(repoDir, 'README.md'), 'utf8');
  const [, code = ''] = /^```js\n(.*?)^```/ms.exec(readme) ?? [];
  const [, commands = ''] = /^```sh\n(npm install .*?)^```/ms.exec(readme) ?? [];
  expect(code.trimEnd().split('\n').length).toBeLessThanOrEqual(10);
  const { token } = await openClient();
  const printed = commands
    .replace('~/holdfast', repoDir)
    .replace('http://127.0.0.1:3000', checkout.url)
    .replace('TOKEN=…', `TOKEN=${token}`);
  const [install = '', start = ''] = printed.trim().split('\n');

  const folder = await mkdtemp(join(tmpdir(), 'holdfast-readme-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  // The client depends on nothing, so npm has nothing to fetch.
  await run('sh', ['-c', install], { cwd: folder, env: { ...process.env, npm_config_offline: 'true' } });
  await writeFile(join(folder, 'buy.mjs'), code);
  const program = spawn('sh', ['-c', start], { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
  program.stdout.setEncoding('utf8');
  let output = '';
  for await (const text of program.stdout) {
    const before = output;
    output += String(text);
    const page = /pay at (\S+)\n/;
    if (!page.test(before)) await pressWhenPrinted(page.exec(output)?.[1]);
  }
  if (program.exitCode === null) await once(program, 'exit');
  expect(output.trim().split('\n').at(-1)).toBe('paid');
  expect(program.exitCode).toBe(0);
});

async function pressWhenPrinted(page: string | undefined): Promise<void> {
  if (page !== undefined) await pressPay(page);
}
