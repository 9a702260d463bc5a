/** Counts refused purchases by sale, and adds them up in Redis once a second. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Stores } from '../stores/open.ts';
import type { ProblemCode } from './http/problem-codes.ts';

/** A refusal shows within two seconds, and a process that dies loses the counts of one. */
const NOTE_EVERY_MS = 1_000;

export type RefusedPurchases = ReturnType<typeof createRefusedPurchases>;

export function createRefusedPurchases({ liveFigures, log }: Pick<Stores, 'liveFigures' | 'log'>) {
  /** By sale and code since the last note: as many sales as the process knows. */
  let counts = new Map<string, Map<ProblemCode, number>>();
  /** Sales of which counts were lost, and Redis does not know it yet. */
  const incomplete = new Set<string>();

  async function noteSale(saleId: string, ofSale: ReadonlyMap<ProblemCode, number>): Promise<void> {
    const isIncomplete = incomplete.delete(saleId);
    try {
      await liveFigures.noteRefused(saleId, ofSale, isIncomplete);
    } catch (error) {
      // They may be added, so they are not sent again: nothing counts twice.
      incomplete.add(saleId);
      log.warn({ err: error, saleId }, 'refused purchases of a sale were not counted');
    }
  }

  async function note(): Promise<void> {
    const noted = counts;
    counts = new Map();
    const saleIds = new Set([...noted.keys(), ...incomplete]);
    await Promise.all([...saleIds].map((saleId) => noteSale(saleId, noted.get(saleId) ?? new Map())));
  }

  return {
    count(saleId: string, code: ProblemCode): void {
      const ofSale = counts.get(saleId) ?? new Map<ProblemCode, number>();
      counts.set(saleId, ofSale.set(code, (ofSale.get(code) ?? 0) + 1));
    },

    note,

    /** Notes until `signal` aborts, and what is left then. */
    async run(signal: AbortSignal): Promise<void> {
      while (!signal.aborted) {
        await note();
        await delay(NOTE_EVERY_MS, undefined, { signal }).catch(() => {});
      }
      await note();
    },
  };
}
