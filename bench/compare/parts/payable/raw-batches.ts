/** Raw multi-row batches as a contestant: the limit of the database, and one by one against batched. */

import type { Figures } from '../../part.ts';
import type { CheckoutStack } from './checkout-stack.ts';
import { startConsumer } from './consumer-process.ts';

export interface RawBatches {
  orders: number;
  /** Orders in a transaction. */
  batch: number;
  connections: number;
}

const TRIED_BATCHES = [100, 250, 500, 1_000];
const TRIED_CONNECTIONS = [1, 2, 4, 10];
/** A second or two for each size. */
const TRIED_ORDERS = 10_000;
/** So many of the sizes are measured again in each round: a single try is not sure of the very best. */
const FINALISTS = 3;

export async function storeRaw(stack: CheckoutStack, work: RawBatches): Promise<Figures> {
  const saleId = await stack.openSale(work.orders);
  const writer = await startConsumer('raw', {
    storeUrl: stack.servers.mysqlUrl,
    queueUrl: '',
    queue: JSON.stringify({ ...work, saleId }),
  });
  try {
    const startedMs = performance.now();
    writer.begin();
    await stack.untilHeld(saleId, work.orders);
    const seconds = (performance.now() - startedMs) / 1_000;
    return { rate: work.orders / seconds, memory: writer.peakMemoryMb() };
  } finally {
    await writer.end();
    await stack.clear();
  }
}

type Size = Omit<RawBatches, 'orders'>;

/** The best of the sizes is the limit. */
export async function storeRawAtBest(
  stack: CheckoutStack,
  orders: number,
  sizes: readonly Size[],
): Promise<Figures> {
  const measured: Figures[] = [];
  for (const size of sizes) measured.push(await storeRaw(stack, { ...size, orders }));
  const [best] = measured.toSorted((a, b) => (b['rate'] ?? 0) - (a['rate'] ?? 0));
  if (best === undefined) throw new Error('no size was measured');
  return best;
}

/** Tries all sizes once. */
export async function findBestSizes(
  stack: CheckoutStack,
  progress: (line: string) => void,
): Promise<{ best: Size[]; notes: string[] }> {
  progress('Trying sizes of raw batches');
  const works = TRIED_CONNECTIONS.flatMap((connections) =>
    TRIED_BATCHES.map((batch) => ({ batch, connections })),
  );
  const tried: (Size & { rate: number })[] = [];
  for (const work of works) {
    const { rate = 0 } = await storeRaw(stack, { ...work, orders: TRIED_ORDERS });
    tried.push({ ...work, rate });
  }
  const best = tried.toSorted((a, b) => b.rate - a.rate).slice(0, FINALISTS);
  const rates = tried.map(
    ({ batch, connections, rate }) => `${batch} on ${connections}: ${rate.toFixed(0)}/s`,
  );
  return {
    best: best.map(({ batch, connections }) => ({ batch, connections })),
    notes: [
      `The limit is the best of ${FINALISTS} sizes in each round: those that were the best of these, tried once with ${TRIED_ORDERS} orders each, as orders to a transaction on connections: ${rates.join(', ')}.`,
    ],
  };
}
