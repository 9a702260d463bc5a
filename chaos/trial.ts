/** A trial: a sale with shoppers all over it while something is done to the system, and whether all is well afterwards. */

import { setTimeout as delay } from 'node:timers/promises';
import { auditStrayMoney, runAudit, type SaleAudit } from '../src/audit/run-audit.ts';
import { createCrowd, shop, type Crowd } from './crowd.ts';
import { checkHistory, type History, type Violation } from './history.ts';
import { startMischief, type Struck } from './mischief.ts';
import { awaitRest, readBooks, type Books } from './money.ts';
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
  /** Of the provider's mischief. */
  seed: number;
  progress: (line: string) => void;
}

export interface TrialReport {
  /** How often each answer to "buy" was given. */
  answers: ReadonlyMap<string, number>;
  ends: ReadonlyMap<string, number>;
  /** What was done at the provider without Holdfast. */
  byHand: ReadonlyMap<string, number>;
  /** How often the provider's mischief struck. */
  mischief: Struck;
  books: Books;
  /** Money that had not come to rest in time. */
  unrest: string[];
  calls: Calls;
  stockLooks: number;
  told: { answers: number; soldOut: number };
  /** How often each order ended, as MySQL recorded it. */
  finals: ReadonlyMap<string, number>;
  violations: Violation[];
  audits: SaleAudit[];
}

/** Shoppers come until `disturb` is done and enough orders are placed; then all of them are seen to their end. */
export async function runTrial(
  system: System,
  { saleId, orders, random, seed, progress }: TrialOptions,
  disturb: (crowd: Crowd) => Promise<void>,
): Promise<TrialReport> {
  await openSale(system, saleId);
  const readStruck = await startMischief(system.farSide, seed);
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
  progress('it is over; waiting for late money and refunds');
  const unrest = await awaitRest(system, saleId);
  progress('looking at what is left');
  const accepted = new Set(history.acceptances.map(({ orderNo }) => orderNo));
  const audits = [await runAudit(system, saleId, [...accepted]), await auditStrayMoney(system)];
  const recorded = await readRecorded(system, saleId);
  const books = await readBooks(system, saleId);
  return {
    answers: crowd.answers,
    ends: crowd.ends,
    byHand: crowd.byHand,
    mischief: await readStruck(),
    books,
    unrest,
    calls: crowd.calls,
    stockLooks: history.stock.length,
    told: { answers: history.answers.length, soldOut: history.soldOut.length },
    finals: countFinals(recorded),
    violations: [...checkHistory(history, recorded), ...watch.broken, ...books.uneven],
    audits,
  };
}
