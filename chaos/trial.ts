/** A trial: a sale with shoppers all over it while something is done to the system, and whether all is well afterwards. */

import { setTimeout as delay } from 'node:timers/promises';

import { auditStrayMoney, runAudit, type SaleAudit } from '../src/audit/run-audit.ts';
import { createCrowd, shop, type Crowd } from './crowd.ts';
import { checkHistory, type History, type Lie } from './history.ts';
import type { Random } from './random.ts';
import { countFinals, openSale, readRecorded } from './sale.ts';
import type { Calls } from './shopper.ts';
import { watchStock } from './stock-watch.ts';
import type { System } from './system.ts';

/** So that the first thing that is done meets orders in every state. */
const WARM_UP_MS = 5_000;
const TELL_EVERY_MS = 15_000;

export interface TrialOptions {
  saleId: string;
  /** It goes on until so many have been placed. */
  orders: number;
  random: Random;
  progress: (line: string) => void;
}

export interface TrialReport {
  /** How often each answer to "buy" was given. */
  answers: ReadonlyMap<string, number>;
  ends: ReadonlyMap<string, number>;
  calls: Calls;
  stockLooks: number;
  told: { answers: number; soldOut: number };
  /** How often each order ended, as MySQL recorded it. */
  finals: ReadonlyMap<string, number>;
  lies: Lie[];
  audits: SaleAudit[];
}

/** Shoppers come until `disturb` is done and enough orders are placed; then all of them are seen to their end. */
export async function runTrial(
  system: System,
  { saleId, orders, random, progress }: TrialOptions,
  disturb: (crowd: Crowd) => Promise<void>,
): Promise<TrialReport> {
  await openSale(system, saleId);
  const history: History = { acceptances: [], answers: [], denials: [], soldOut: [], stock: [] };
  const crowd = await createCrowd(system, saleId, history, random);
  const watch = watchStock(system, saleId, history.stock);
  const over = new AbortController();
  const shopping = shop(crowd, random, () => !over.signal.aborted || crowd.placed() < orders);
  const telling = setInterval(() => {
    progress(`${crowd.placed()} orders placed, ${crowd.open().length} open`);
  }, TELL_EVERY_MS);
  try {
    await delay(WARM_UP_MS);
    await disturb(crowd);
    over.abort();
    await shopping;
  } finally {
    over.abort();
    clearInterval(telling);
    await watch.end();
  }
  progress('it is over; looking at what is left');
  const accepted = new Set(history.acceptances.map(({ orderNo }) => orderNo));
  const audits = [await runAudit(system, saleId, [...accepted]), await auditStrayMoney(system)];
  const recorded = await readRecorded(system, saleId);
  return {
    answers: crowd.answers,
    ends: crowd.ends,
    calls: crowd.calls,
    stockLooks: history.stock.length,
    told: { answers: history.answers.length, soldOut: history.soldOut.length },
    finals: countFinals(recorded),
    lies: [...checkHistory(history, recorded), ...watch.broken],
    audits,
  };
}
