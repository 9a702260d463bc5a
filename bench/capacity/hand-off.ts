/**
 * The part `hand-off`: how fast accepted orders get into the outbox, from one caller and from many, without
 * HTTP.
 */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { DEFAULT_STORES_PER_SECOND } from '../../src/config.ts';
import { fingerprintOf } from '../../src/orders/content.ts';
import { createReservations } from '../../src/orders/reservations.redis.ts';
import { saleKeys, wholeSale } from '../../src/redis/keys.ts';
import type { Figures, OpenPart, Part } from '../compare/part.ts';
import { readCpuSeconds } from '../http/cpu.ts';
import { openBenchServers, type BenchServers } from '../servers.ts';
import { runConcurrently } from '../shoppers.ts';

const CALLERS = [1, 8, 64, 256];
/** The number at which the processor time is read: as many as an API works on at once. */
const COUNTED = 64;
const SECONDS = 2;
/** More than any caller takes. */
const UNITS = 10_000_000;

export const handOffPart: Part = {
  name: 'hand-off',
  title: 'Hand-off: orders into the outbox',
  about:
    'Callers in one process reserve an order each, and the next once they have the answer, without HTTP. Redis syncs its ' +
    'file at every write. A bare XADD of the same entry is what the stream takes at best.',
  columns: [
    ...CALLERS.map((callers) => ({
      key: `from${callers}`,
      label: callers === 1 ? 'one caller' : `${callers} callers`,
      unit: '/s',
      digits: 0,
    })),
    { key: 'redisUs', label: `Redis, from ${COUNTED}`, unit: 'µs', digits: 1 },
  ],
  charted: `from${COUNTED}`,
  targets: [],
  async open(progress): Promise<OpenPart> {
    const stack = await openBenchServers(progress);
    // It has nothing to do here.
    stack.processes.freeze('temporal');
    // A rewrite of its file that Redis begins by itself would meet a measurement.
    await stack.redis.config('SET', 'auto-aof-rewrite-percentage', 0);
    const contestant = (name: string, role: 'ours' | 'variant' | 'limit', prepare: Prepare) => ({
      name,
      role,
      measure: () => measure(stack, prepare),
    });
    return {
      contestants: [
        contestant('reserved, those of a turn in one call', 'ours', reserveTogether),
        contestant('reserved, a call for each', 'variant', reserveAlone),
        contestant('bare XADD', 'limit', addBare),
      ],
      notes: () => [
        'The first is how the API reserves: purchases of one turn of its event loop share a call. One caller alone waits ' +
          'for a whole round trip and its sync each time, whatever it calls.',
      ],
      close: stack.close,
    };
  },
};

/** @returns what one caller does, by its number; resolves once the order is handed over */
type Prepare = (stack: BenchServers, saleId: string, callers: number) => (caller: number) => Promise<unknown>;

const reserveTogether: Prepare = (stack, saleId) => {
  const reserve = reserver(stack, saleId);
  return (caller) => reserve(caller);
};

/** Each caller has reservations of its own, which share no call with those of others. */
const reserveAlone: Prepare = (stack, saleId, callers) => {
  const reservers = Array.from({ length: callers }, () => reserver(stack, saleId));
  return async (caller) => reservers[caller]?.(caller);
};

const addBare: Prepare = ({ redis }, saleId) => {
  const { outbox } = saleKeys(wholeSale(saleId));
  const orderNo = `${saleId}-0-1-${'0'.repeat(26)}`;
  return () => redis.xadd(outbox, '*', 'order_no', orderNo);
};

function reserver({ redis }: BenchServers, saleId: string): (caller: number) => Promise<void> {
  const reservations = createReservations(redis, { storesPerSecond: DEFAULT_STORES_PER_SECOND });
  const cart = { saleId, items: [{ sku: 'unit', quantity: 1 }] };
  const fingerprint = fingerprintOf(cart);
  return async (caller) => {
    const { kind } = await reservations.reserve({
      ...cart,
      userId: `bench-${caller}`,
      idempotencyKey: randomUUID(),
      fingerprint,
      ip: '127.0.0.1',
      userAgent: 'bench',
    });
    assert.equal(kind, 'reserved', 'every order is accepted');
  };
}

async function measure(stack: BenchServers, prepare: Prepare): Promise<Figures> {
  const figures: Record<string, number> = {};
  for (const callers of CALLERS) {
    await stack.clearRedis();
    const saleId = await stack.openSale(UNITS);
    const handOver = prepare(stack, saleId, callers);
    const cpuBefore = readCpuSeconds(stack.processes.pid('redis'));
    const startedMs = performance.now();
    const endMs = startedMs + SECONDS * 1_000;
    const counts = await runConcurrently(callers, callers, async (caller) => {
      let count = 0;
      for (; performance.now() < endMs; count += 1) await handOver(caller);
      return count;
    });
    const orders = counts.reduce((sum, count) => sum + count, 0);
    figures[`from${callers}`] = orders / ((performance.now() - startedMs) / 1_000);
    const waiting = await stack.redis.xlen(saleKeys(wholeSale(saleId)).outbox);
    assert.equal(waiting, orders, 'each order is in the outbox');
    const cpuSeconds = readCpuSeconds(stack.processes.pid('redis')) - cpuBefore;
    if (callers === COUNTED) figures['redisUs'] = (1_000_000 * cpuSeconds) / orders;
  }
  return figures;
}
