/** The memory of a worker that finds half a million accepted orders in the outbox. */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { saleKeys } from '../../../src/redis/keys.ts';
import { readMemory } from '../../memory.ts';
import { openShop, type Shop } from '../growth/shop.ts';
import { median } from '../judgement.ts';
import type { Figures, OpenPart, Part } from '../part.ts';

const WAITING = 500_000;
/** More than the rounds take out of the outbox, so that in each of them so many wait at the start. */
const SEEDED = 700_000;
/** Long enough for the heap to reach its size. */
const SECONDS = 8;
const WORKER_MB_MAX = 400;
const NAME = '500,000 waiting';

export const backlogPart: Part = {
  name: 'backlog',
  title: 'Growth: a long outbox',
  about:
    'A worker starts while at least 500,000 accepted orders wait in the outbox: the most resident memory that it ' +
    `has had after ${SECONDS} s, and how many orders a second it has stored.`,
  columns: [
    { key: 'peakMb', label: 'memory of the worker', unit: 'MB', digits: 0 },
    { key: 'stored', label: 'stored', unit: '/s', digits: 0 },
  ],
  charted: 'peakMb',
  targets: [
    { text: 'worker with 500,000 waiting orders, MB', figure: 'peakMb', of: NAME, atMost: WORKER_MB_MAX },
  ],
  open,
};

async function open(progress: (line: string) => void): Promise<OpenPart> {
  const shop = await openShop({ orders: SEEDED, stage: 'waiting', progress });
  const bases: number[] = [];
  return {
    contestants: [{ name: NAME, role: 'ours', measure: () => measure(shop, bases) }],
    notes: () => [
      `Right after its start the worker has ${median(bases)} MB: Node.js, Temporal's SDK and the bundle of the workflows.`,
    ],
    close: () => shop.close(),
  };
}

async function measure(shop: Shop, bases: number[]): Promise<Figures> {
  const { outbox } = saleKeys({ saleId: shop.saleId, shard: 0 });
  await shop.startWorker();
  try {
    bases.push(readMemory(shop.pid('worker')).nowMb);
    const before = await shop.redis.xlen(outbox);
    assert(before >= WAITING, `only ${before} orders wait`);
    const startedMs = performance.now();
    await delay(SECONDS * 1_000);
    const left = await shop.redis.xlen(outbox);
    const seconds = (performance.now() - startedMs) / 1_000;
    assert(left < before, 'the worker takes orders out of the outbox');
    return { peakMb: readMemory(shop.pid('worker')).peakMb, stored: (before - left) / seconds };
  } finally {
    await shop.shut();
  }
}
