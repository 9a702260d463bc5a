/** The part `payable`: how fast accepted orders become payable, from where they wait into the database. */

import { startPostgres } from '../../../stack/servers/postgres.ts';
import { startRabbitmq } from '../../../stack/servers/rabbitmq.ts';
import { startRestate } from '../../../stack/servers/restate.ts';
import type { Contestant, OpenPart, Part } from '../part.ts';
import { openCheckoutStack, type CheckoutStack } from './payable/checkout-stack.ts';
import { COST_COLUMNS } from './payable/costs.ts';
import { drainOutbox } from './payable/holdfast.ts';
import { createPeers } from './payable/peers.ts';
import { findBestSizes, storeRaw, storeRawAtBest, type RawBatches } from './payable/raw-batches.ts';

const ORDERS = 20_000;
const OURS = 'Holdfast';
const FROZEN = 'Holdfast, Temporal frozen';
const LIMIT = 'raw batches (the limit)';

/** Fewer where 20,000 would take far more than six seconds; the rate is of these. */
const PEERS = {
  luaList: { name: 'A: Redis list, 5 processors, row by row', orders: 4_000 },
  rabbitmq: { name: 'B: RabbitMQ, 5 workers, prefetch 10', orders: 4_000 },
  bullmq: { name: 'BullMQ, concurrency 50', orders: 5_000 },
  dbos: { name: 'DBOS Transact on PostgreSQL', orders: 2_000 },
  restate: { name: 'Restate', orders: 4_000 },
} as const;

/** One by one against batched, by the number of connections. */
const ONE_BY_ONE: readonly RawBatches[] = [
  { batch: 1, connections: 1, orders: 500 },
  { batch: 1, connections: 10, orders: 3_000 },
  { batch: 1, connections: 50, orders: 4_000 },
  { batch: 100, connections: 1, orders: 10_000 },
  { batch: 100, connections: 10, orders: 20_000 },
  { batch: 100, connections: 50, orders: 20_000 },
];

export const payablePart: Part = {
  name: 'payable',
  title: 'Payable: accepted orders into the database',
  about:
    'Orders wait where the design keeps them, then its consumer is let loose: the rate at which they are stored with their stock, until all are.',
  columns: [
    { key: 'rate', label: 'stored', unit: 'orders/s', digits: 0 },
    { key: 'memory', label: 'peak memory of the consumer', unit: 'MB', digits: 0 },
    ...COST_COLUMNS,
  ],
  charted: 'rate',
  targets: [
    { text: 'of the limit', figure: 'rate', of: OURS, against: [LIMIT], atLeast: 0.6 },
    {
      text: 'times the best peer',
      figure: 'rate',
      of: OURS,
      against: Object.values(PEERS).map(({ name }) => name),
      atLeast: 3,
    },
    {
      text: 'with Temporal frozen from the first second, of without',
      figure: 'rate',
      of: FROZEN,
      against: [OURS],
      atLeast: 0.95,
    },
  ],
  async open(progress): Promise<OpenPart> {
    const stack = await openCheckoutStack(progress);
    try {
      return await openOn(stack, progress);
    } catch (error) {
      await stack.close();
      throw error;
    }
  },
};

async function openOn(stack: CheckoutStack, progress: (line: string) => void): Promise<OpenPart> {
  const { processes } = stack;
  const peers = createPeers(stack, {
    amqpUrl: await startRabbitmq({ processes, progress }),
    postgresUrl: await startPostgres({ processes, progress }),
    restate: await startRestate({ processes, progress }),
  });
  const { best, notes } = await findBestSizes(stack, progress);
  const contestants: Contestant[] = [
    {
      name: OURS,
      role: 'ours',
      measure: () => drainOutbox(stack, { orders: ORDERS, temporal: 'at work' }),
    },
    {
      name: FROZEN,
      role: 'variant',
      measure: () => drainOutbox(stack, { orders: ORDERS, temporal: 'frozen' }),
    },
    { name: LIMIT, role: 'limit', measure: () => storeRawAtBest(stack, ORDERS, best) },
    { name: PEERS.luaList.name, role: 'peer', measure: () => peers.luaList(PEERS.luaList.orders) },
    { name: PEERS.rabbitmq.name, role: 'peer', measure: () => peers.rabbitmq(PEERS.rabbitmq.orders) },
    { name: PEERS.bullmq.name, role: 'peer', measure: () => peers.bullmq(PEERS.bullmq.orders) },
    { name: PEERS.dbos.name, role: 'peer', measure: () => peers.dbos(PEERS.dbos.orders) },
    { name: PEERS.restate.name, role: 'peer', measure: () => peers.restate(PEERS.restate.orders) },
    ...ONE_BY_ONE.map((work): Contestant => ({
      name: `raw, ${work.batch} to a transaction, ${work.connections} connections`,
      role: 'reference',
      measure: () => storeRaw(stack, work),
    })),
  ];
  return { contestants, notes: () => [...notes, ...NOTES], close };

  async function close(): Promise<void> {
    await peers.close();
    await stack.close();
  }
}

const NOTES = [
  `Holdfast and the limit store ${ORDERS} orders; a slower design fewer, so that it takes seconds: ${Object.values(
    PEERS,
  )
    .map(({ name, orders }) => `${name}: ${orders}`)
    .join('; ')}.`,
  'Holdfast and the raw batches write the order, its items, its event, its ledger entry and the stock; the others the order, its items and the stock, as their designs do. DBOS writes them into its own PostgreSQL, all others into the same MariaDB; both flush every commit.',
  'Every consumer is a process of its own, started before its orders are queued and stopped by the kernel until they are.',
];
