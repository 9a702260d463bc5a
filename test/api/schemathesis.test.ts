/**
 * `npm run test:openapi`: schemathesis, which knows nothing of the code, calls each operation of the OpenAPI
 * document with what it makes up, well and ill formed, and holds the answers to the document. OPENAPI_CASES
 * is how many for each operation, OPENAPI_SEED what they are made of.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { signToken, type Rights } from '../../src/api/http/auth.ts';
import type { Sale } from '../../src/sales/sale.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { JWT_SECRET, pressPay, send, sessionOf } from '../support/shopper.ts';
import { tool } from '../support/tools.ts';

const CASES = process.env['OPENAPI_CASES'] ?? '500';
const SEED = process.env['OPENAPI_SEED'] ?? '12';

const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_schema_conformance',
  // The document demands `Retry-After` of each 429 and 503.
  'response_headers_conformance',
  'ignored_auth',
  'unsupported_method',
];

/** What there is, so that most cases reach more than a 404: values by the name of their dictionary. */
type World = Record<string, (string | number)[]>;

/** Which of them stand where, in most cases: the others are made up. */
const PARAMETERS = {
  'path.saleId': 'sales',
  'path.orderNo': 'orders',
  'path.name': 'names',
  'path.paymentId': 'rows',
  'path.refundId': 'rows',
  'query.saleId': 'sales',
  'query.orderNo': 'orders',
  'query.userId': 'users',
  'query.consumer': 'names',
  'query.date': 'days',
  // A wait of the longest would be waited for in each case.
  'query.wait': 'waits',
  'header.If-Match': 'tags',
  'header.Prefer': 'preferences',
  'body.saleId': 'sales',
  'body.sku': 'skus',
  'body.items[*].sku': 'skus',
  'body.lines[*].sku': 'skus',
  'body.skus[*].sku': 'skus',
  'body.currency': 'currencies',
  'body.opensAt': 'pastTimes',
  'body.closesAt': 'times',
  'body.until': 'times',
  'body.orderNo': 'orders',
  'body.url': 'urls',
};

/** Calls that would take from the others what they work on, or wait for its end, have their own. */
const OWN_PARAMETERS: Record<string, Record<string, string>> = {
  callOffSale: { 'path.saleId': 'doomedSales' },
  closeSale: { 'path.saleId': 'doomedSales' },
  archiveSale: { 'path.saleId': 'doomedSales' },
  cancelOrder: { 'path.orderNo': 'doomedOrders' },
  cancelOrderForShopper: { 'path.orderNo': 'doomedOrders' },
  removeEndpoint: { 'path.name': 'doomedNames' },
  removeConsumer: { 'path.name': 'doomedNames' },
  watchOrder: { 'path.orderNo': 'endedOrders' },
};

function configOf(world: World): string {
  const bind = (parameters: Record<string, string>) =>
    Object.entries(parameters).map(([at, dictionary]) => {
      const probability = dictionary === 'waits' ? 0.98 : 0.7;
      return `${JSON.stringify(at)} = { dictionary = "${dictionary}", probability = ${probability} }`;
    });
  return [
    '[checks.not_a_server_error]',
    'expected-statuses = ["2xx", "3xx", "4xx", "503"]',
    // Each case counts for itself: what earlier ones were answered is no part of it.
    '[phases.fuzzing.extra-data-sources]',
    'responses = false',
    ...Object.entries(world).map(
      ([name, values]) => `[dictionaries.${name}]\nvalues = ${JSON.stringify(values)}`,
    ),
    '[parameters]',
    ...bind(PARAMETERS),
    ...Object.entries(OWN_PARAMETERS).flatMap(([id, own]) => [
      `[[operations]]\ninclude-operation-id = "${id}"`,
      '[operations.parameters]',
      ...bind(own),
    ]),
  ].join('\n');
}

/** By operation, status and code: how often it came. */
const answersSchema = z.array(z.tuple([z.string(), z.int(), z.string().nullable(), z.int()]));
type Answers = z.infer<typeof answersSchema>;

async function runSchemathesis(
  url: string,
  token: string,
  world: World,
  paths: readonly string[],
): Promise<{ exitCode: unknown; answers: Answers }> {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-openapi-'));
  try {
    writeFileSync(join(folder, 'schemathesis.toml'), configOf(world));
    const options = ['--max-examples', CASES, '--seed', SEED, '--phases', 'examples,coverage,fuzzing'];
    options.push('--suppress-health-check', 'too_slow', '--continue-on-failure');
    const args = ['run', `${url}/openapi.json`, ...options, '--checks', CHECKS.join(','), ...paths];
    const child = spawn(tool('schemathesis'), [...args, '--header', `Authorization: Bearer ${token}`], {
      cwd: folder,
      env: { ...process.env, SCHEMATHESIS_HOOKS: join(repoDir, 'test/api/schemathesis/count_answers.py') },
      stdio: 'inherit',
    });
    const [exitCode]: unknown[] = await once(child, 'close');
    const counted = readFileSync(join(folder, 'answers.json'), 'utf8');
    return { exitCode, answers: answersSchema.parse(JSON.parse(counted)) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const PLENTY = [
  { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000_000, limitPerUser: null },
  { sku: 'mug', name: 'Enamel mug', unitPrice: 1_450, total: 1_000_000, limitPerUser: null },
];
const HOUR_MS = 60 * 60_000;

/** Sales in each state, and orders of ada's in each status. */
async function furnish(checkout: Checkout): Promise<World> {
  const open = (saleId: string, more: Partial<Sale> = {}) =>
    checkout.stores.openSale(buildSale({ saleId, skus: PLENTY, ...more }));
  const laterMs = Date.now() + HOUR_MS;
  await open('open');
  await open('doomed');
  await open('ticketed', { ticketRequired: true });
  await open('worked', { verification: { kind: 'proof_of_work', costKib: 64, aheadMs: 0 } });
  await open('scheduled', { opensAtMs: laterMs, closesAtMs: laterMs + HOUR_MS });
  await open('paused', { paused: true });

  const ada = await checkout.shopper('ada');
  const buyStored = async (saleId: string) => {
    const orderNo = await ada.buy(saleId);
    await ada.awaitStatus(orderNo, 'awaiting_payment');
    return orderNo;
  };
  const buyPaid = async (saleId: string) => {
    const orderNo = await buyStored(saleId);
    await pressPay(sessionOf(await ada.pay(orderNo)).url);
    await ada.awaitStatus(orderNo, 'paid');
    return orderNo;
  };
  const cancelled = await buyStored('open');
  await ada.cancel(cancelled);
  await ada.awaitStatus(cancelled, 'cancelled');
  const endedOrders = [cancelled, await buyPaid('open')];
  const openOrders = [await buyStored('open'), await buyStored('open')];
  const doomedOrders = [await buyStored('doomed'), await buyPaid('doomed')];

  const authorization = `Bearer ${await signToken(JWT_SECRET, 'olga', '1h', { roles: ['admin'] })}`;
  const put = async (path: string, body: object) => {
    const { status } = await send(`${checkout.url}/v1/admin/${path}`, 'PUT', {
      headers: { authorization },
      body,
    });
    expect([200, 201]).toContain(status);
  };
  // The first phase removes the first of them, whatever the parameters of its call are.
  const names = ['former', 'office', 'warehouse'];
  for (const name of names) {
    await put(`endpoints/${name}`, { url: 'http://127.0.0.1:1/hook' });
    await put(`events/consumers/${name}`, { position: 0 });
  }

  const now = Date.now();
  return {
    sales: ['open', 'ticketed', 'worked', 'scheduled', 'paused'],
    doomedSales: ['doomed'],
    orders: [...endedOrders, ...openOrders],
    endedOrders,
    doomedOrders,
    skus: ['lamp', 'mug'],
    names,
    doomedNames: ['former'],
    rows: ['1', '2', '3'],
    users: ['ada'],
    days: [new Date(now).toISOString().slice(0, 10)],
    pastTimes: [new Date(now - HOUR_MS).toISOString()],
    times: [new Date(now + HOUR_MS).toISOString(), new Date(now + 2 * HOUR_MS).toISOString()],
    waits: [0, 1],
    tags: ['*', '"1"'],
    preferences: ['wait=1', 'wait=7'],
    currencies: ['EUR'],
    urls: ['http://127.0.0.1:1/hook'],
  };
}

/** A line for each operation: how often each status came, and the codes of those from 500 on. */
function tabulate(answers: Answers): string {
  const operations = new Set(answers.map(([operation]) => operation));
  const lines = [...operations].map((operation) => {
    const own = answers.filter(([name]) => name === operation);
    const each = own.map(
      ([, status, code, count]) => `${status}${status < 500 || code === null ? '' : ` ${code}`} × ${count}`,
    );
    return `  ${operation}: ${own.reduce((sum, [, , , count]) => sum + count, 0)} calls: ${each.join(', ')}`;
  });
  return lines.join('\n');
}

test.each<[string, string[], Rights]>([
  ['shoppers and the provider', ['--exclude-path-regex', '^/v1/admin/'], {}],
  // On a stack of its own: staff close, call off and remove.
  ['the back office', ['--include-path-regex', '^/v1/admin/'], { roles: ['admin'] }],
])(
  'the answers to %s are those of the document',
  async (_, paths, rights) => {
    const checkout = await openCheckout();
    const world = await furnish(checkout);
    const token = await signToken(JWT_SECRET, 'ada', '6h', rights);
    console.log(`· schemathesis, seed ${SEED}, ${CASES} cases an operation`);
    const { exitCode, answers } = await runSchemathesis(checkout.url, token, world, paths);
    console.log(`· answers by operation:\n${tabulate(answers)}`);
    const failures = answers.filter(([, status]) => status >= 500);
    console.log(`· answers from 500 on: ${failures.length === 0 ? 'none' : JSON.stringify(failures)}`);
    expect(exitCode).toBe(0);
    expect(failures.filter(([, status]) => status !== 503)).toEqual([]);
  },
  3 * 60 * 60_000,
);
