/**
 * 500 callers wait for their orders: with no worker at all, with Temporal frozen, and with MySQL away. Each
 * gets an answer that stays true, and the audit finds nothing. `SHOW_FIGURES=1` prints them.
 */

import { expect, inject, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { runAudit } from '../../src/audit/run-audit.ts';
import { appEnv, startApi, startWorker } from '../../stack/app.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import { openTcpProxy } from '../../stack/servers/tcp-proxy.ts';
import { openProvider } from '../crash/crash-world.ts';
import { buildSale } from '../support/factories.ts';
import { openPrivateStage } from '../support/private-stage.ts';
import { select } from '../support/rows.ts';
import {
  JWT_SECRET,
  openShopper,
  orderOf,
  pressPay,
  problemOf,
  sessionOf,
  type Reply,
  type Shopper,
} from '../support/shopper.ts';
import { expectStockEquation } from '../support/stock.ts';
import { openTestProcesses } from '../support/test-processes.ts';
import { waitFor } from '../support/wait.ts';
import { openEngine } from '../support/workflows/engines.ts';

const CALLERS = 500;
/** A small Temporal ends some twenty orders a second. */
const SETTLED_WITHIN_MS = 240_000;

async function openWorld() {
  const onClose = (close: () => Promise<void>) => onTestFinished(close);
  const { stores, namespace, servers } = await openPrivateStage(onClose);
  const { client, close: closeEngine } = await openEngine(namespace);
  onClose(closeEngine);
  const url = new URL(stores.config.MYSQL_URL);
  const mysql = await openTcpProxy(url.host);
  onClose(() => mysql.close());
  url.host = mysql.address;
  const temporal = await openTcpProxy(inject('temporalAddress'));
  onClose(() => temporal.close());
  const apiUrl = `http://127.0.0.1:${await findFreePort()}`;
  const { provider, providerUrl } = await openProvider(apiUrl, stores, onClose);
  const env = {
    ...appEnv({
      servers: { ...servers, mysqlUrl: url.href, temporalAddress: temporal.address },
      urls: { apiUrl, providerUrl },
    }),
    TEMPORAL_NAMESPACE: namespace,
    JWT_SECRET,
  };
  const { processes, close } = await openTestProcesses((crash) => expect.unreachable(crash.message));
  onClose(close);
  await startApi(processes, { name: 'api', env });
  return {
    stores,
    client,
    provider,
    mysql,
    temporal,
    shopper: () => openShopper(apiUrl),
    startWorker: () => startWorker(processes, { name: 'worker', env }),
  };
}

type World = Awaited<ReturnType<typeof openWorld>>;

interface Answer {
  shopper: Shopper;
  reply: Reply;
  orderNo: string;
  afterMs: number;
}

interface Way {
  callers?: number;
  /** Every other one wants its order cancelled where the wait ends. */
  cancels?: boolean;
  /** Who is answered with 202 asks again with the same key: a busy machine stores later than they wait. */
  untilStored?: boolean;
}

async function callAndWait(
  { shopper }: World,
  saleId: string,
  { callers = CALLERS, cancels = false, untilStored = false }: Way = {},
): Promise<Answer[]> {
  const shoppers = await Promise.all(Array.from({ length: callers }, shopper));
  return Promise.all(
    shoppers.map(async (each, i) => {
      const body = { saleId, items: [{ sku: 'lamp', quantity: 1 }] };
      const isCancelling = cancels && i % 2 === 0;
      const sinceMs = performance.now();
      const headers = { prefer: 'wait=7', 'idempotency-key': `caller-${i}` };
      const ask = () =>
        each.placeUntilAnswered(isCancelling ? { ...body, onTimeout: 'cancel' } : body, headers);
      let reply = await ask();
      if (untilStored) while (isQueued(reply)) reply = await ask();
      const afterMs = performance.now() - sinceMs;
      const orderNo = reply.status < 300 ? orderOf(reply).orderNo : ofProblem.parse(problemOf(reply)).orderNo;
      return { shopper: each, reply, orderNo, afterMs };
    }),
  );
}

const isQueued = (reply: Reply) => reply.status < 300 && orderOf(reply).status === 'queued';

const ofProblem = z.object({ orderNo: z.string() });

function show(what: string, answers: readonly Answer[]): void {
  if (process.env['SHOW_FIGURES'] === undefined) return;
  for (const status of [200, 201, 202, 504]) {
    const times = answers
      .filter(({ reply }) => reply.status === status)
      .map(({ afterMs }) => Math.round(afterMs))
      .toSorted((a, b) => a - b);
    console.log(what, {
      status,
      times: times.length,
      medianMs: times[times.length >> 1],
      lastMs: times.at(-1),
    });
  }
}

const openSale = async ({ stores }: World): Promise<string> => {
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null }];
  return (await stores.openSale(buildSale({ skus }))).saleId;
};

async function countByStatus({ stores }: World, saleId: string): Promise<Record<string, number>> {
  const rows = await select(
    stores.pool,
    'SELECT status, COUNT(*) AS orders FROM orders WHERE sale_id = ? GROUP BY status ORDER BY status',
    [saleId],
  );
  const counted = z.array(z.object({ status: z.string(), orders: z.coerce.number() })).parse(rows);
  return Object.fromEntries(counted.map(({ status, orders }) => [status, orders]));
}

async function expectCleanAudit(world: World, saleId: string, answers: readonly Answer[]): Promise<void> {
  const accepted = answers.map(({ orderNo }) => orderNo);
  const { orders, findings } = await runAudit(world, saleId, accepted);
  expect({ orders, findings }).toEqual({ orders: accepted.length, findings: [] });
  await expectStockEquation(world.stores, saleId);
}

const statusesOf = (answers: readonly Answer[]) => new Set(answers.map(({ reply }) => reply.status));

/** By the API alone. A repeat of an order that is stored is answered with 200. */
function expectAllStored(answers: readonly Answer[]): void {
  const bySelf = answers.filter(({ reply }) => reply.status === 201 || reply.status === 200);
  expect(bySelf).toHaveLength(answers.length);
  expect(new Set(bySelf.map(({ reply }) => orderOf(reply).status))).toEqual(new Set(['awaiting_payment']));
}

test('500 callers who wait get answers that stay true, whatever is away', async () => {
  const world = await openWorld();

  const withoutWorker = await openSale(world);
  const first = await callAndWait(world, withoutWorker, { untilStored: true });
  show('no worker', first);
  expectAllStored(first);
  expect(statusesOf(first)).toContain(201);
  const [payer] = first;
  if (!payer) throw new Error('no caller');
  await pressPay(sessionOf(await payer.shopper.pay(payer.orderNo)).url);
  await payer.shopper.awaitStatus(payer.orderNo, 'paid');

  await world.startWorker();

  world.temporal.silence();
  const whileFrozen = await openSale(world);
  const second = await callAndWait(world, whileFrozen, { untilStored: true });
  show('Temporal frozen', second);
  expectAllStored(second);
  expect(statusesOf(second)).toContain(201);
  world.temporal.cut();
  world.temporal.mend();

  const whileAway = await openSale(world);
  world.mysql.cut();
  const calling = callAndWait(world, whileAway, { callers: CALLERS / 2, untilStored: true });
  const inVain = await callAndWait(world, whileAway, { callers: CALLERS / 2, cancels: true });
  world.mysql.mend();
  const stored = await calling;
  show('MySQL away, in vain', inVain);
  show('MySQL away, and back', stored);
  expect(statusesOf(inVain)).toEqual(new Set([202, 504]));
  expectAllStored(stored);
  const third = [...inVain, ...stored];
  const cancelled = third.filter(({ reply }) => reply.status === 504);

  await waitFor(
    'all orders to be stored, and those to be cancelled whose callers wanted that',
    async () => {
      const counts = await countByStatus(world, whileAway);
      return (
        counts['cancelled'] === cancelled.length && counts['awaiting_payment'] === CALLERS - cancelled.length
      );
    },
    SETTLED_WITHIN_MS,
  );
  const reasons = await select(
    world.stores.pool,
    `SELECT DISTINCT status, closing_reason FROM orders WHERE order_no IN (${cancelled.map(() => '?').join(', ')})`,
    cancelled.map(({ orderNo }) => orderNo),
  );
  expect(reasons).toEqual([{ status: 'cancelled', closing_reason: 'wait_timeout' }]);

  await expectCleanAudit(world, withoutWorker, first);
  await expectCleanAudit(world, whileFrozen, second);
  await expectCleanAudit(world, whileAway, third);
}, 600_000);
